// The account page: appearance, password, tokens, leaving.

import { api } from "./api.js";
import { bind, button, secretBox } from "./forms.js";

const theme = document.getElementById("theme");
theme.value = localStorage.getItem("tutelage:theme") ?? "auto";
theme.addEventListener("change", () => {
  if (theme.value === "auto") { localStorage.removeItem("tutelage:theme"); delete document.documentElement.dataset.theme; }
  else { localStorage.setItem("tutelage:theme", theme.value); document.documentElement.dataset.theme = theme.value; }
});

bind(document.getElementById("password-form"), {
  then: (_, form) => { form.reset(); setTimeout(() => location.reload(), 900); },
  done: "Changed. Every other session has ended.",
});
bind(document.getElementById("token-form"), {
  body: (form) => ({ name: form.elements.name.value, scopes: [form.elements.scope.value], days: form.elements.days.value ? Number(form.elements.days.value) : null }),
  then: (answer, form) => { form.after(secretBox("Copy the token now; it is not shown again.", answer.token)); form.reset(); },
  done: "Made.",
});
for (const element of document.querySelectorAll("[data-revoke]"))
  button(element, () => api("DELETE", `/api/v1/me/tokens/${element.dataset.revoke}`), { question: "Revoke this token? Programs that use it stop working." });
document.getElementById("logout").addEventListener("click", async () => {
  try { await api("POST", "/api/v1/auth/logout"); } finally { location.assign("/login"); }
});
