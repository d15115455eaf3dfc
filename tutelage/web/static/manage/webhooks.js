// Webhooks: adding, testing, pausing and deleting them.

import { api } from "../api.js";
import { t } from "../dom.js";
import { bind, button, secretBox } from "../forms.js";

const data = JSON.parse(document.getElementById("data").textContent);

bind(document.getElementById("webhook-form"), {
  body: (form) => ({ url: form.elements.url.value.trim(), events: [...form.querySelectorAll("input:checked")].map((box) => box.name) }),
  then: (answer, form) => { form.after(secretBox(t("Messages are signed with this secret. Copy it now; it is not shown again. The list shows the webhook after a reload."), answer.secret)); form.reset(); },
  done: t("Added."),
});
for (const element of document.querySelectorAll("#webhooks [data-act]")) {
  const { act, to } = element.dataset;
  const url = `${data.base}/webhooks/${element.closest("tr").dataset.hook}`;
  const acts = {
    test: () => api("POST", `${url}/test`),
    active: () => api("PUT", url, { active: to === "yes" }),
    delete: () => api("DELETE", url),
  };
  const question = act === "delete" ? t("Delete this webhook, and the messages that wait for it?") : null;
  // a test has a moment to arrive, so that the list shows what became of it
  const then = () => setTimeout(() => location.reload(), act === "test" ? 2500 : 0);
  button(element, acts[act], { question, then });
}
