// The users of the server: new passwords, administrators, whom to keep out.

import { api } from "./api.js";
import { t } from "./dom.js";
import { button, secretBox } from "./forms.js";

const questions = {
  reset: (name) => t("Make a link by which {name} sets a new password? When it is used, their sessions end and their tokens are revoked.", { name }),
  "administrator yes": (name) => t("Make {name} an administrator? They will own every project.", { name }),
  "administrator no": (name) => t("Is {name} to be no administrator any more?", { name }),
  "active no": (name) => t("Lock {name} out of this server? Their sessions end and their tokens are revoked; their answers stay.", { name }),
};

for (const element of document.querySelectorAll("#users [data-act]")) {
  const { act, to } = element.dataset;
  const name = element.closest("tr").dataset.user;
  const url = `/api/v1/users/${encodeURIComponent(name)}/${act}`;
  const question = questions[to ? `${act} ${to}` : act]?.(name);
  if (act !== "reset") { button(element, () => api("PUT", url, { [act]: to === "yes" }), { question }); continue; }
  let link = "";
  button(element, async () => { link = location.origin + (await api("POST", url)).path; }, {
    question,
    then: () => { element.disabled = false; document.getElementById("users").append(secretBox(t("Send this link to {name}; it works once, for three days.", { name }), link)); },
  });
}
