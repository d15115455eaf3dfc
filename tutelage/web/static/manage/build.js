// Items: building them, and which come first.

import { bind, said } from "../forms.js";

const build = document.getElementById("build-form");
const size = build.elements.size;
function fitSize() {
  const type = build.elements.type.value;
  const fixed = { pair: 2, step: 1, chat: 0 }[type];
  size.min = { rank: 2, rate: 1, rewrite: 0 }[type] ?? fixed;
  size.max = { rank: 9, rate: 9, rewrite: 1 }[type] ?? fixed;
  size.value = fixed ?? { rank: 3, rate: 2, rewrite: 1 }[type];
  size.readOnly = fixed !== undefined;
}
build.elements.type.addEventListener("change", fitSize);
fitSize();
bind(build, {
  then: (answer, form) => said(form, `${answer.new} new items; ${answer.there} were there already; ${answer.short} prompts have too few different responses.`, answer.new ? "good" : "warn"),
});
bind(document.getElementById("priority-form"), { then: (answer, form) => said(form, `${answer.count} items have a new priority.`, "good") });
