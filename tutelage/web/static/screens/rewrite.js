// Rewrite a response, or demonstrate one: an editor beside the original, and what changed.

import { diffElement } from "../diff.js";
import { h, kbd, t, uid } from "../dom.js";
import { Remarks, Seen, asked, promptPart, responseCard } from "./parts.js";

export function rewriteScreen(view, ctx) {
  const original = view.task.responses[0]?.text ?? null;
  const remarks = new Remarks(view.task.questions, ctx);
  const id = uid("text");
  const editor = h("textarea", { id, class: "tall", maxlength: 100_000, dir: "auto", oninput: () => { drawSoon(); ctx.changed(); } });
  const changes = h("div", { class: "card", "aria-label": t("What changed") });
  let timer = 0;
  editor.value = original ?? "";

  function draw() {
    if (original === null) return;
    changes.replaceChildren(h("h2", {}, t("What changed")),
      editor.value === original ? h("p", { class: "soft" }, t("Nothing yet.")) : diffElement(original, editor.value));
  }
  function drawSoon() { clearTimeout(timer); timer = setTimeout(draw, 120); }
  draw();

  const label = h("label", { class: "label", for: id }, original === null ? t("Your response") : t("Your version"), " ", kbd("e"));
  const edit = h("div", { class: "card" }, label, editor);
  const card = original === null ? null : responseCard(view, 0, ctx, { head: [h("h2", { class: "label" }, t("As it is"))] });
  const seen = new Seen(card ? [card] : [], ctx);
  return {
    stage: [promptPart(view, ctx), card ? h("div", { class: "columns" }, card.card, edit) : edit,
      original === null ? null : changes, remarks.element],
    bar: [asked(view.task)],
    read() {
      const text = editor.value;
      const problem = !text.trim() ? t("Write a response.") : text === original ? t("Change something, or skip the item.") : remarks.problem ?? seen.problem;
      return { answer: { type: "rewrite", text, ...remarks.read() }, problem };
    },
    restore(answer) { editor.value = answer.text ?? ""; remarks.restore(answer); draw(); },
    stop() { clearTimeout(timer); seen.stop(); },
    keys: { e: () => editor.focus(), ...remarks.keys },
    help: [["e", t("edit the text")], ...remarks.help],
  };
}
