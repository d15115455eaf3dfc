// Items: building them, and which come first.

import { t } from "../dom.js";
import { bind, said } from "../forms.js";

const build = document.getElementById("build-form");

function fitSize() {
  const { size, type: { value: type } } = build.elements;
  const fixed = { pair: 2, step: 1, chat: 0 }[type];
  size.min = { rank: 2, rate: 1, rewrite: 0 }[type] ?? fixed;
  size.max = { rank: 9, rate: 9, rewrite: 1 }[type] ?? fixed;
  size.value = fixed ?? { rank: 3, rate: 2, rewrite: Number(!build.dataset.promptsOnly) }[type];
  size.readOnly = fixed !== undefined;
}

if (build) {
  build.elements.type.addEventListener("change", fitSize);
  fitSize();
  bind(build, {
    then: (answer, form) => said(form, t("{new} new items; {there} were there already; {short} prompts have too few different responses.", answer), answer.new ? "good" : "warn"),
  });
  bind(document.getElementById("priority-form"), { then: (answer, form) => said(form, t("{count} items have a new priority.", answer), "good") });
}
