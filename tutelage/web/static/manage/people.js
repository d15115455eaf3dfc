// Members and invitations.

import { api } from "../api.js";
import { data, t } from "../dom.js";
import { bind, buttons, said, secretBox } from "../forms.js";

const people = document.getElementById("people");
const member = (name) => `${data.base}/members/${encodeURIComponent(name)}`;

bind(document.getElementById("invite-form"), {
  then: (answer, form) => form.append(secretBox(t("Send this link to one person; it works once."), location.origin + answer.path)),
  done: "",
});
bind(document.getElementById("member-form"), {
  url: (form) => member(form.elements.name.value.trim()), method: "PUT",
  body: (form) => ({ role: form.elements.role.value }), then: () => location.reload(),
});
for (const row of document.querySelectorAll("tr[data-member]")) {
  for (const field of row.querySelectorAll("select, input")) {
    let before = field.value;
    field.addEventListener("change", async () => {
      const body = { role: row.querySelector("select").value, team: row.querySelector("input").value };
      try {
        await api("PUT", member(row.dataset.member), body);
        before = field.value;
        said(people, t("Saved."), "good");
      } catch (error) {
        said(people, error.message, "bad");
        field.value = before;
      }
    });
  }
}
buttons("#people [data-remove]", ({ remove }) => api("DELETE", member(remove)), {
  question: ({ remove }) => t("Take {name} out of the project? Their answers stay.", { name: remove }),
});
buttons("#people [data-revoke]", ({ revoke }) => api("DELETE", `${data.base}/invitations/${revoke}`), { question: () => t("Revoke this invitation? Its link stops working.") });
