// What is kept in this browser and cannot be stored as it is: never lost, shown with its words, to copy or throw away.

import { copyButton, h, seen, t } from "./dom.js";

/** The words of an answer, else all of it. */
function wordsOf(answer) {
  const marks = (answer.marks ?? []).flatMap((mark) => [mark.reason, mark.rewrite]);
  const words = [answer.text, answer.message, ...marks, answer.reason].filter((text) => text?.trim());
  return words.length ? words.join("\n\n") : JSON.stringify(answer, null, 1);
}

/** One line: what it is, its words, and what can be done; `again` opens it, where that makes sense. */
export function keptRow(sentence, answer, { again, throwAway }) {
  const words = wordsOf(answer);
  const text = h("div", { class: "asis small kept", dir: "auto", tabindex: "0" }, seen(words));
  return h("div", { class: "more" }, h("p", {}, sentence), text, h("div", { class: "row" },
    again ? h("button", { type: "button", onclick: again }, t("Open again")) : null, copyButton(words, text),
    h("button", { type: "button", class: "quiet", onclick: throwAway }, t("Throw away"))));
}

/** Show `rows` in a box with this id before `place`; none: the box goes. */
export function keptBox(id, place, rows) {
  document.getElementById(id)?.remove();
  if (rows.length) place.before(h("div", { class: "notice bad more", id, role: "alert" }, rows));
}
