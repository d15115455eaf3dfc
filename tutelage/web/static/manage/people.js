// Members and invitations.

import { api } from "../api.js";
import { bind, button, secretBox } from "../forms.js";

const data = JSON.parse(document.getElementById("data").textContent);

bind(document.getElementById("invite-form"), {
  then: (answer, form) => form.after(secretBox("Send this link to one person; it works once.", location.origin + answer.path)),
  done: "Made.",
});
bind(document.getElementById("member-form"), {
  url: (form) => `${data.base}/members/${encodeURIComponent(form.elements.name.value.trim())}`, method: "PUT",
  body: (form) => ({ role: form.elements.role.value }), then: () => location.reload(),
});
for (const select of document.querySelectorAll("select[data-member]")) {
  const before = select.value;
  select.addEventListener("change", async () => {
    try { await api("PUT", `${data.base}/members/${encodeURIComponent(select.dataset.member)}`, { role: select.value }); }
    catch (error) { alert(error.message); select.value = before; }
  });
}
for (const element of document.querySelectorAll("[data-remove]"))
  button(element, () => api("DELETE", `${data.base}/members/${encodeURIComponent(element.dataset.remove)}`), { question: `Take ${element.dataset.remove} out of the project? Their answers stay.` });
for (const element of document.querySelectorAll("[data-active]"))
  button(element, () => api("PUT", `/api/v1/users/${encodeURIComponent(element.dataset.active)}/active`, { active: element.dataset.to === "yes" }),
    { question: element.dataset.to === "yes" ? null : `Lock ${element.dataset.active} out of this server? Their answers stay.` });
