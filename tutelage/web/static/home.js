// The queue: what can be done about a project as a whole.

import { api } from "./api.js";
import { t } from "./dom.js";
import { bind, buttons } from "./forms.js";

buttons("[data-restore]", ({ restore }) => api("POST", restore));
buttons("[data-one-more]", ({ oneMore }) => api("POST", oneMore), { then: (_, { dataset }) => location.assign(dataset.then) });
for (const form of document.querySelectorAll("form.purge")) bind(form, { done: t("Gone."), then: () => location.reload() });
