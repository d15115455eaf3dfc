// Rewrite a response, or demonstrate one: an editor beside the original, and what changed.

import { diffElement } from "../diff.js";
import { h, uid } from "../dom.js";
import { Remarks, promptPart, responseCard } from "./parts.js";

export function rewriteScreen(view, ctx) {
  const original = view.task.responses[0]?.text ?? null;
  const remarks = new Remarks(view.task.questions, ctx);
  const id = uid("text");
  const editor = h("textarea", { id, class: "tall", maxlength: 100_000, dir: "auto", oninput: () => { drawSoon(); ctx.changed(); } });
  const changes = h("div", { class: "card", "aria-label": "What changed" });
  let timer = 0;
  editor.value = original ?? "";

  function draw() {
    if (original === null) return;
    changes.replaceChildren(h("h2", {}, "What changed"),
      editor.value === original ? h("p", { class: "soft" }, "Nothing yet.") : diffElement(original, editor.value));
  }
  function drawSoon() { clearTimeout(timer); timer = setTimeout(draw, 120); }
  draw();

  const label = h("label", { class: "label", for: id }, original === null ? "Your response" : "Your version");
  const edit = h("div", { class: "card" }, label, editor);
  return {
    stage: [promptPart(view, ctx),
      original === null ? edit : h("div", { class: "columns" }, responseCard(view, 0, ctx, { head: [h("h2", { class: "label" }, "As it is")] }).card, edit),
      original === null ? null : changes, remarks.element],
    bar: [],
    read() {
      const text = editor.value;
      const problem = !text.trim() ? "Write a response." : text === original ? "Change something, or skip the item." : remarks.problem;
      return { answer: { type: "rewrite", text, ...remarks.read() }, problem };
    },
    restore(answer) { editor.value = answer.text ?? ""; remarks.restore(answer); draw(); },
    stop() { clearTimeout(timer); },
    keys: { e: () => editor.focus(), ...remarks.keys },
    help: [["e", "edit the text"], ...remarks.help],
  };
}
