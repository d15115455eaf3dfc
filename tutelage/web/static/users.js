// The users of the server: new passwords, administrators, whom to keep out.

import { api } from "./api.js";
import { t } from "./dom.js";
import { buttons, secretBox } from "./forms.js";

const url = (name, act) => `/api/v1/users/${encodeURIComponent(name)}/${act}`;

buttons("#users [data-reset]", ({ name }) => api("POST", url(name, "reset")), {
  question: (of) => t("Make a link by which {name} sets a new password? When it is used, their sessions end and their tokens are revoked.", of),
  then: ({ path }, element) => {
    element.disabled = false;
    document.getElementById("users").append(secretBox(t("Send this link to {name}; it works once, for three days.", element.dataset), location.origin + path));
  },
});
buttons("#users [data-administrator]", ({ name, administrator }) => api("PUT", url(name, "administrator"), { administrator: administrator === "yes" }), {
  question: (of) => (of.administrator === "yes" ? t("Make {name} an administrator? They will own every project.", of) : t("Is {name} to be no administrator any more?", of)),
});
buttons("#users [data-active]", ({ name, active }) => api("PUT", url(name, "active"), { active: active === "yes" }), {
  question: (of) => (of.active === "no" ? t("Lock {name} out of this server? Their sessions end and their tokens are revoked; their answers stay.", of) : ""),
});
