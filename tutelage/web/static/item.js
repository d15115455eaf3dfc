// One item: shown as while working; tags, notes, flags, gold, sending back, redacting.

import { api } from "./api.js";
import { CHANGES, ask } from "./dialog.js";
import { diffElement } from "./diff.js";
import { h, letter, t, textOf } from "./dom.js";
import { bind, button } from "./forms.js";
import { Keys } from "./keys.js";
import { promptPart, responseCard } from "./screens/parts.js";

const data = JSON.parse(document.getElementById("data").textContent);
const url = `${data.base}/items/${data.item}`;
const { view } = data;
const count = view.task.responses.length;
let raw = false, differences = false;

function draw() {
  const ctx = { raw, settings: data.settings };
  const cards = view.task.responses.map((shown, slot) => {
    const made = responseCard(view, slot, ctx, { head: [h("span", { class: "soft small" }, data.models[slot] ?? "")] });
    if (differences && count === 2) made.body.replaceChildren(diffElement(view.task.responses[0].text, view.task.responses[1].text, slot ? "ins" : "del"));
    if (shown.steps.length) made.body.replaceChildren(h("ol", { class: "steps-shown" }, view.steps[slot].map((step) => h("li", {}, textOf(step, raw)))));
    return made.card;
  });
  const toggle = (on, key, words, act) => h("button", { type: "button", class: "quiet", "aria-pressed": String(on), onclick: act }, words, " ", h("kbd", { "aria-hidden": "true" }, key));
  document.getElementById("stage").replaceChildren(promptPart(view, ctx), h("div", { class: `responses ${count === 2 ? "two" : ""}` }, cards),
    h("div", { class: "row" }, toggle(raw, "v", t("As written"), keys.common.v), count === 2 ? toggle(differences, "d", t("Words that differ"), keys.common.d) : null));
}

const follow = (id) => () => { const link = document.getElementById(id); if (link) location.assign(link.href); };
const keys = new Keys();
keys.common = {
  v: () => { raw = !raw; draw(); }, d: () => { if (count === 2) { differences = !differences; draw(); } },
  j: follow("next"), k: follow("previous"),
};
draw();

const change = (made) => api("POST", `${data.base}/items/change`, { items: [data.item], change: made });

/** Buttons that ask first: `question` resolves to what `act` sends, or to null when one thinks better of it. */
function asking(selector, question, act) {
  for (const element of document.querySelectorAll(selector))
    element.addEventListener("click", async () => {
      const said = await question(element);
      if (!said) return;
      try { await act(said, element); location.reload(); } catch (error) { alert(error.message); }
    });
}

for (const element of document.querySelectorAll("[data-gold]"))
  button(element, () => api("PUT", `${url}/gold`, { answer: JSON.parse(element.dataset.gold) }));
for (const element of document.querySelectorAll("[data-close]"))
  button(element, () => change({ what: "close", closed: element.dataset.close === "yes" }));
for (const element of document.querySelectorAll("[data-untag]"))
  button(element, () => change({ what: "tag", tag: element.dataset.untag, on: false }));
for (const element of document.querySelectorAll("[data-note]"))
  button(element, () => api("DELETE", `${url}/notes/${element.dataset.note}`));
asking("#add-tag", () => CHANGES.tag(data), change);
asking("#reserve", () => CHANGES.reserve(data), change);
asking("[data-resolve]", () => CHANGES.resolve(data), (made, element) => change({ ...made, flag: Number(element.dataset.resolve) }));
asking("[data-send-back]", (element) => ask({
  title: t("Send back to {who}", { who: element.dataset.who }), intro: t("It comes first in their queue, with your note. The answer counts as it is until they revise it."),
  fields: [{ name: "note", label: t("What is to be corrected"), tall: true }], action: t("Send back"),
}), (said, element) => api("POST", `${data.base}/annotations/${element.dataset.sendBack}/send-back`, said));
asking("[data-redact]", (element) => ask({
  title: { prompt: t("Redact the prompt"), response: t("Redact response {letter}", { letter: letter(Number(element.dataset.key)) }), answer: t("Redact the answer's words") }[element.dataset.redact],
  intro: t("The text goes for good, wherever this store has it; votes and counts stay. It cannot be undone. Files exported before, and backups, keep it."),
  fields: [{ name: "confirm", label: t("Type “redact” to confirm") }], action: t("Redact"), danger: true,
}), (said, element) => api("POST", `${url}/redact`, { what: element.dataset.redact, key: Number(element.dataset.key ?? 0), confirm: said.confirm }));
const note = document.getElementById("note-form");
if (note) bind(note, { then: () => location.reload() });
