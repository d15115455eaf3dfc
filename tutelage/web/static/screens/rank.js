// Rank K: a number per card, by keys, buttons or dragging; equal numbers are ties.

import { h, inOrder, letter, segments, t } from "../dom.js";
import { Cards, Remarks, asked, promptPart } from "./parts.js";
import { rankPlaces } from "./places.js";

export function rankScreen(view, ctx) {
  const questions = view.task.questions;
  const count = view.task.responses.length;
  const remarks = new Remarks(questions, ctx);
  const order = h("output", { class: "hint", "aria-live": "off" });
  const ranks = view.task.responses.map((_, position) => segments({
    legend: t("Rank of response {letter}", { letter: letter(position) }), css: "compact fit", hideLegend: true,
    options: Array.from({ length: count }, (_, i) => [i + 1, String(i + 1), undefined, t("Response {letter}: rank {rank}", { letter: letter(position), rank: i + 1 })]),
    onchange: () => { draw(); ctx.changed(); },
  }));
  const cards = new Cards(view, ctx, { key: () => "a", more: (position) => ({ head: [h("span", { class: "right" }, ranks[position].element)] }) });
  const places = rankPlaces(count, { give: put, pick: focus });
  for (const [position, card] of cards.elements.entries()) places.grabbable(card.querySelector(".letter"), position);

  const focused = () => cards.elements.findIndex((card) => card.contains(document.activeElement));
  const unranked = () => ranks.findIndex((rank) => rank.value === undefined);
  const current = () => (focused() < 0 ? Math.max(0, unranked()) : focused());
  function move(by) { focus(focused() < 0 ? 0 : (focused() + by + count) % count); }
  function focus(position) {
    ranks[position].focus();
    cards.elements[position].scrollIntoView({ block: "nearest" });
  }
  function give(rank) {
    ranks[current()].choose(rank);
    if (unranked() >= 0) focus(unranked());
  }
  /** A letter was dropped on a rank; where there are no ties, whoever was there takes the place that it left. */
  function put(position, rank) {
    const own = ranks[position];
    const there = questions.ties || !rank ? undefined : ranks.find((other) => other.value === rank);
    if (there) there.value = own.value;
    own.value = rank;
    draw();
    ctx.changed();
  }
  function draw() {
    const given = ranks.map((rank) => rank.value);
    places.draw(given);
    order.textContent = inOrder(given, "  >  ");
    const best = Math.min(...given.filter(Boolean));
    cards.elements.forEach((card, i) => card.classList.toggle("picked", given[i] === best));
  }
  draw();
  const keys = { j: () => move(1), k: () => move(-1), ...remarks.keys };
  if (questions.acceptable) keys.a = () => cards.toggle(current());
  for (let rank = 1; rank <= count; rank++) keys[String(rank)] = () => give(rank);

  return {
    stage: [promptPart(view, ctx), h("div", { class: `responses ${count === 2 || count === 4 ? "two" : ""}` }, cards.elements), remarks.element],
    bar: [asked(view.task, h("span", { class: "soft small" }, questions.ties ? t("1 is best; equal numbers are ties") : t("1 is best, each number once")), places.element, order)],
    read() {
      const given = ranks.map((rank) => rank.value ?? null);
      const problem = unranked() >= 0 ? t("Rank response {letter}.", { letter: letter(unranked()) })
        : !questions.ties && new Set(given).size < count ? t("Two responses have the same rank: this project wants no ties.")
        : cards.problem ?? remarks.problem ?? cards.seen.problem;
      return { answer: { type: "rank", ranks: given, acceptable: cards.acceptable, ...remarks.read() }, problem };
    },
    restore(answer) {
      (answer.ranks ?? []).forEach((rank, i) => { if (rank !== null && ranks[i]) ranks[i].value = rank; });
      cards.restore(answer);
      remarks.restore(answer);
      draw();
    },
    stop() { cards.seen.stop(); },
    keys,
    help: [[`1 to ${count}`, t("rank of the focused response (or the first one without)")], ["j or k", t("next, previous response")], ["mouse", t("drag a letter onto a number")], ...(questions.acceptable ? [["a", t("the focused response: acceptable; again: not")]] : []), ...remarks.help],
  };
}
