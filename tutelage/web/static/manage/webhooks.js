// Webhooks: adding, testing, pausing and deleting them.

import { api } from "../api.js";
import { data, t } from "../dom.js";
import { bind, buttons, secretBox } from "../forms.js";

bind(document.getElementById("webhook-form"), {
  body: (form) => ({ url: form.elements.url.value.trim(), events: [...form.querySelectorAll("input:checked")].map((box) => box.name) }),
  then: (answer, form) => { form.after(secretBox(t("Messages are signed with this secret. Copy it now; it is not shown again. The list shows the webhook after a reload."), answer.secret)); form.reset(); },
  done: t("Added."),
});
const url = (id) => `${data.base}/webhooks/${id}`;
// a test has a moment to arrive, so that the list shows what became of it
buttons("#webhooks [data-test]", ({ test }) => api("POST", `${url(test)}/test`), { then: () => setTimeout(() => location.reload(), 2500) });
buttons("#webhooks [data-active]", ({ hook, active }) => api("PUT", url(hook), { active: active === "yes" }));
buttons("#webhooks [data-delete]", (of) => api("DELETE", url(of.delete)), { question: () => t("Delete this webhook, and the messages that wait for it?") });
