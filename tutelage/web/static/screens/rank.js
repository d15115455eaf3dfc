// Rank K: a number per card, by keys, buttons or dragging; equal numbers are ties.

import { h, letter, segments, t } from "../dom.js";
import { Remarks, Seen, acceptable, asked, promptPart, responseCard } from "./parts.js";
import { rankPlaces } from "./places.js";

export function rankScreen(view, ctx) {
  const questions = view.task.questions;
  const count = view.task.responses.length;
  const remarks = new Remarks(questions, ctx);
  const order = h("output", { class: "hint", "aria-live": "off" });
  const cards = view.task.responses.map((_, position) => {
    const rank = segments({
      legend: t("Rank of response {letter}", { letter: letter(position) }), css: "compact fit", hideLegend: true,
      options: Array.from({ length: count }, (_, i) => [i + 1, String(i + 1), undefined, t("Response {letter}: rank {rank}", { letter: letter(position), rank: i + 1 })]),
      onchange: () => { draw(); ctx.changed(); },
    });
    const accept = questions.acceptable ? acceptable(position, { ...ctx, single: false }, "a") : null;
    return { rank, accept, ...responseCard(view, position, ctx, { head: [h("span", { class: "right" }, rank.element)], footer: accept ? [accept.element] : [] }) };
  });
  const places = rankPlaces(count, { give: put, pick: focus });
  for (const [position, { card }] of cards.entries()) places.grabbable(card.querySelector(".letter"), position);
  const seen = ctx.settings.require_scroll && !ctx.preview ? new Seen(cards.map((card) => card.end), ctx.changed) : null;

  function current() {
    const at = cards.findIndex((card) => card.card.contains(document.activeElement));
    return at < 0 ? Math.max(0, cards.findIndex((card) => card.rank.value === undefined)) : at;
  }
  function move(by) {
    const at = cards.findIndex((card) => card.card.contains(document.activeElement));
    focus(at < 0 ? 0 : (at + by + count) % count);
  }
  function focus(position) {
    const inputs = cards[position].rank.inputs;
    (inputs.get(cards[position].rank.value) ?? inputs.get(1)).focus({ preventScroll: true });
    cards[position].card.scrollIntoView({ block: "nearest" });
  }
  function give(rank) {
    const at = current();
    cards[at].rank.choose(rank);
    const next = cards.findIndex((card) => card.rank.value === undefined);
    if (next >= 0) focus(next);
  }
  /** A letter was dropped on a rank; where there are no ties, whoever was there takes the place that it left. */
  function put(position, rank) {
    const { rank: own } = cards[position];
    const there = questions.ties || !rank ? undefined : cards.find((card) => card.rank.value === rank);
    if (there) there.rank.value = own.value;
    own.value = rank;
    draw();
    ctx.changed();
  }
  function draw() {
    places.draw(cards.map((card) => card.rank.value));
    const groups = new Map();
    cards.forEach((card, i) => { if (card.rank.value) groups.set(card.rank.value, [...(groups.get(card.rank.value) ?? []), letter(i)]); });
    order.textContent = [...groups.keys()].sort((a, b) => a - b).map((rank) => groups.get(rank).join(" = ")).join("  >  ");
    const best = Math.min(...groups.keys());
    cards.forEach((card) => card.card.classList.toggle("picked", card.rank.value === best));
  }
  draw();
  const keys = { j: () => move(1), k: () => move(-1), ...remarks.keys };
  if (questions.acceptable) keys.a = () => { const { accept } = cards[current()]; accept.choose(accept.value !== true); };
  for (let rank = 1; rank <= count; rank++) keys[String(rank)] = () => give(rank);

  return {
    stage: [promptPart(view, ctx), h("div", { class: `responses ${count === 2 || count === 4 ? "two" : ""}` }, cards.map((card) => card.card)), remarks.element],
    bar: [asked(view.task, h("span", { class: "soft small" }, questions.ties ? t("1 is best; equal numbers are ties") : t("1 is best, each number once")), places.element, order)],
    read() {
      const ranks = cards.map((card) => card.rank.value ?? null);
      const said = cards.map((card) => card.accept?.value ?? null);
      const missing = ranks.findIndex((rank) => rank === null);
      const problem = missing >= 0 ? t("Rank response {letter}.", { letter: letter(missing) })
        : !questions.ties && new Set(ranks).size < count ? t("Two responses have the same rank: this project wants no ties.")
        : questions.acceptable && said.includes(null) ? t("Say of each response whether it is acceptable.")
        : remarks.problem ?? seen?.problem ?? null;
      return { answer: { type: "rank", ranks, acceptable: questions.acceptable ? said : [], ...remarks.read() }, problem };
    },
    restore(answer) {
      (answer.ranks ?? []).forEach((rank, i) => { if (rank !== null && cards[i]) cards[i].rank.value = rank; });
      (answer.acceptable ?? []).forEach((value, i) => { if (value !== null && cards[i]?.accept) cards[i].accept.value = value; });
      remarks.restore(answer);
      draw();
    },
    stop() { seen?.stop(); },
    keys,
    help: [[`1 to ${count}`, t("rank of the focused response (or the first one without)")], ["j or k", t("next, previous response")], ["mouse", t("drag a letter onto a number")], ...(questions.acceptable ? [["a", t("the focused response: acceptable; again: not")]] : []), ...remarks.help],
  };
}
