// The queue: what can be done about a project as a whole.

import { api } from "./api.js";
import { t } from "./dom.js";
import { bind, button } from "./forms.js";

for (const element of document.querySelectorAll("[data-restore]")) button(element, () => api("POST", element.dataset.restore));
for (const element of document.querySelectorAll("[data-one-more]")) {
  button(element, () => api("POST", element.dataset.oneMore), { then: () => location.assign(element.dataset.then) });
}
for (const form of document.querySelectorAll("form.purge")) bind(form, { done: t("Gone."), then: () => location.reload() });
