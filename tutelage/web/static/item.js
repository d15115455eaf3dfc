// One item: shown as while working; tags, notes, flags, gold, sending back, redacting.

import { api } from "./api.js";
import { CHANGES, ask } from "./dialog.js";
import { diffElement } from "./diff.js";
import { data, h, kbd, letter, t, textOf } from "./dom.js";
import { bind, buttons } from "./forms.js";
import { Keys } from "./keys.js";
import { promptPart, responseCard } from "./screens/parts.js";

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
  const toggle = (on, key, words) => h("button", { type: "button", class: "quiet", "aria-pressed": String(on), onclick: keys.common[key] }, words, " ", kbd(key));
  document.getElementById("stage").replaceChildren(promptPart(view, ctx), h("div", { class: `responses ${count === 2 ? "two" : ""}` }, cards),
    h("div", { class: "row" }, toggle(raw, "v", t("As written")), count === 2 ? toggle(differences, "d", t("Words that differ")) : null));
}

const follow = (id) => () => { const link = document.getElementById(id); if (link) location.assign(link.href); };
const keys = new Keys();
keys.common = {
  v: () => { raw = !raw; draw(); }, d: () => { if (count === 2) { differences = !differences; draw(); } },
  j: follow("next"), k: follow("previous"),
};
draw();

const change = (made) => api("POST", `${data.base}/items/change`, { items: [data.item], change: made });

buttons("[data-gold]", ({ gold }) => api("PUT", `${url}/gold`, { answer: JSON.parse(gold) }));
buttons("[data-close]", ({ close }) => change({ what: "close", closed: close === "yes" }));
buttons("[data-untag]", ({ untag }) => change({ what: "tag", tag: untag, on: false }));
buttons("[data-note]", ({ note }) => api("DELETE", `${url}/notes/${note}`));
buttons("#add-tag", (_, made) => change(made), { ask: () => CHANGES.tag(data) });
buttons("#reserve", (_, made) => change(made), { ask: () => CHANGES.reserve(data) });
buttons("[data-resolve]", ({ resolve }, made) => change({ ...made, flag: Number(resolve) }), { ask: () => CHANGES.resolve(data) });
buttons("[data-send-back]", ({ sendBack }, said) => api("POST", `${data.base}/annotations/${sendBack}/send-back`, said), {
  ask: ({ who }) => ask({
    title: t("Send back to {who}", { who }), intro: t("It comes first in their queue, with your note. The answer counts as it is until they revise it."),
    fields: [{ name: "note", label: t("What is to be corrected"), tall: true }], action: t("Send back"),
  }),
});
buttons("[data-redact]", ({ redact, key = 0 }, { confirm }) => api("POST", `${url}/redact`, { what: redact, key: Number(key), confirm }), {
  ask: ({ redact, key }) => ask({
    title: { prompt: t("Redact the prompt"), response: t("Redact response {letter}", { letter: letter(Number(key)) }), answer: t("Redact the answer's words") }[redact],
    intro: t("The text goes for good, wherever this store has it; votes and counts stay. It cannot be undone. Files exported before, and backups, keep it."),
    fields: [{ name: "confirm", label: t("Type “redact” to confirm") }], action: t("Redact"), danger: true,
  }),
});
const note = document.getElementById("note-form");
if (note) bind(note, { then: () => location.reload() });
