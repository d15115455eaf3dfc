import { t } from "./dom.js";
import { bind } from "./forms.js";

const form = document.getElementById("new-form");
bind(form, {
  body: () => ({ name: form.elements.name.value.trim(), settings: { title: form.elements.title.value.trim() }, questions: { type: form.elements.type.value } }),
  then: (made) => location.assign(form.dataset.next.replace("PROJECT", encodeURIComponent(made.name.replaceAll("%", "%25").replaceAll("/", "%2F")))),
  done: t("Made."),
});
