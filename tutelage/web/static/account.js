// The account page: appearance, password, tokens, leaving.

import { api } from "./api.js";
import { t } from "./dom.js";
import { bind, buttons, secretBox } from "./forms.js";

const theme = document.getElementById("theme");
theme.value = localStorage.getItem("tutelage:theme") ?? "auto";
theme.addEventListener("change", () => {
  if (theme.value === "auto") { localStorage.removeItem("tutelage:theme"); delete document.documentElement.dataset.theme; }
  else { localStorage.setItem("tutelage:theme", theme.value); document.documentElement.dataset.theme = theme.value; }
});

const language = document.getElementById("language");
language?.addEventListener("change", () => {
  document.cookie = `${language.dataset.cookie}=${language.value}; path=/; max-age=31536000; samesite=lax`;
  location.reload();
});

bind(document.getElementById("password-form"), {
  then: (_, form) => { form.reset(); setTimeout(() => location.reload(), 900); },
  done: t("Changed. Every other session has ended, and all tokens are revoked."),
});
bind(document.getElementById("token-form"), {
  body: (form) => ({ name: form.elements.name.value, scopes: [form.elements.scope.value], days: form.elements.days.value ? Number(form.elements.days.value) : null }),
  then: (answer, form) => { form.after(secretBox(t("Copy the token now; it is not shown again."), answer.token)); form.reset(); },
  done: t("Made."),
});
buttons("[data-revoke]", ({ revoke }) => api("DELETE", `/api/v1/me/tokens/${revoke}`), { question: () => t("Revoke this token? Programs that use it stop working.") });
document.getElementById("logout").addEventListener("click", async () => {
  try { await api("POST", "/api/v1/auth/logout"); } finally { location.assign("/login"); }
});
