// The keyboard: single keys that work anywhere but in text fields, dialogs, and while an input method composes.

import { showDialog } from "./dialog.js";
import { h, t } from "./dom.js";

const TYPING = 'textarea, select, [contenteditable], input:not([type="radio"]):not([type="checkbox"]):not([type="button"])';
const OWN_ENTER = "button, a, summary, [role=button]";

export class Keys {
  constructor() {
    this.common = {};
    this.screen = {};
    document.addEventListener("keydown", (event) => this.handle(event));
  }

  handle(event) {
    if (event.isComposing || event.keyCode === 229 || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const typing = target.closest(TYPING);
    if (typing) {
      if (event.key === "Escape") { typing.blur(); event.preventDefault(); }
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.run("Enter", event);
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && (event.repeat || target.closest(OWN_ENTER))) return;
    if (event.key === " " ) return; // the browser's own: press, scroll
    this.run(event.key, event);
  }

  run(key, event) {
    const action = this.screen[key] ?? this.common[key];
    if (action && action(event) !== false) event.preventDefault();
  }
}

const WORDS = { to: t("to"), or: t("or"), mouse: t("mouse") }; // among the keys of a help text

/** The help overlay: `groups` of [title, [[keys, what], ...]]. */
export function helpDialog(groups) {
  const row = ([keys, what]) => [h("dt", {}, keys.split(" ").flatMap((key, i) => [i ? " " : "", WORDS[key] ?? h("kbd", {}, key)])), h("dd", {}, what)];
  showDialog(t("Keys"),
    groups.map(([title, rows]) => h("section", {}, h("h3", { class: "soft" }, title), h("dl", { class: "keys" }, rows.flatMap(row)))),
    h("p", { class: "soft small" }, t("Single keys do nothing while you type in a field; Escape leaves the field, Ctrl+Enter submits from it.")));
}
