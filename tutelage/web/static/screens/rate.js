// Rate by criteria: a row of numbers per criterion and response, with words at the ends, or "not applicable".

import { h, letter, segments, t } from "../dom.js";
import { Remarks, Seen, acceptable, asked, promptPart, responseCard, stepThrough } from "./parts.js";

export function rateScreen(view, ctx) {
  const questions = view.task.questions;
  const count = view.task.responses.length;
  const remarks = new Remarks(questions, ctx);
  const values = Array.from({ length: questions.scale }, (_, i) => i + 1);
  const ends = (criterion) => [t("1 = {words}", { words: criterion.low }), t("{highest} = {words}", { highest: questions.scale, words: criterion.high })];
  const scales = new Set(questions.criteria.map((criterion) => ends(criterion).join(", ")));
  const cards = view.task.responses.map((_, position) => {
    const about = count === 1 ? "" : `${t("Response {letter}", { letter: letter(position) })}, `;
    const rows = questions.criteria.map((criterion) => {
      const words = (value) => value === 1 ? `, ${criterion.low}` : value === questions.scale ? `, ${criterion.high}` : "";
      const group = segments({
        legend: criterion.title, css: "compact", hideLegend: true,
        options: [...values.map((value) => [value, String(value), undefined, `${about}${criterion.title}: ${value}${words(value)}`]),
          ["none", t("n/a"), "n", `${about}${criterion.title}: ${t("not applicable")}`]],
        onchange: ctx.changed,
      });
      const element = h("div", { class: "criterion" },
        h("div", {}, h("span", { class: "name" }, criterion.title), " ", h("span", { class: "soft small" }, criterion.description)),
        group.element, scales.size > 1 ? h("div", { class: "ends", "aria-hidden": "true" }, ends(criterion).map((end) => h("span", {}, end))) : null);
      return { name: criterion.name, title: criterion.title, group, element };
    });
    const accept = questions.acceptable ? acceptable(position, { ...ctx, single: count === 1 }) : null;
    return { rows, accept, ...responseCard(view, position, ctx, { below: [h("div", { class: "criteria" }, rows.map((row) => row.element))], footer: accept ? [accept.element] : [] }) };
  });
  const groups = cards.flatMap((card) => [...card.rows.map((row) => row.group), ...(card.accept ? [card.accept] : [])]);
  const seen = ctx.settings.require_scroll && !ctx.preview ? new Seen(cards.map((card) => card.end), ctx.changed) : null;

  function give(value) {
    const ratings = cards.flatMap((card) => card.rows.map((row) => row.group));
    let at = ratings.findIndex((group) => group.element.contains(document.activeElement));
    if (at < 0) at = Math.max(0, ratings.findIndex((group) => group.value === undefined));
    ratings[at].choose(value);
    const next = ratings[at + 1];
    if (next) {
      [...next.inputs.values()].find((input) => input.checked)?.focus({ preventScroll: true }) ?? [...next.inputs.values()][0].focus({ preventScroll: true });
      next.element.scrollIntoView({ block: "nearest" });
    }
  }
  const keys = { j: () => stepThrough(groups, 1), k: () => stepThrough(groups, -1), n: () => give("none"), ...remarks.keys };
  for (const value of values) keys[value === 10 ? "0" : String(value)] = () => give(value);
  const read = (value) => (value === "none" || value === undefined ? null : value);

  return {
    stage: [promptPart(view, ctx), h("div", { class: "responses" }, cards.map((card) => card.card)), remarks.element],
    bar: [asked(view.task, scales.size === 1 ? h("span", { class: "soft small" }, [...scales][0]) : null)],
    read() {
      const said = cards.map((card) => card.accept?.value ?? null);
      const ratings = Object.fromEntries(questions.criteria.map((criterion, i) => [criterion.name, cards.map((card) => read(card.rows[i].group.value))]));
      let problem = null;
      cards.forEach((card, i) => card.rows.forEach((row) => {
        if (row.group.value === undefined) problem ??= count === 1 ? t("Rate “{what}”.", { what: row.title }) : t("Rate “{what}” of response {letter}.", { what: row.title, letter: letter(i) });
      }));
      if (questions.acceptable && said.includes(null)) problem ??= t("Say of each response whether it is acceptable.");
      return { answer: { type: "rate", ratings, acceptable: questions.acceptable ? said : [], ...remarks.read() }, problem: problem ?? remarks.problem ?? seen?.problem ?? null };
    },
    draft(answer) { return { ...answer, none: cards.map((card) => card.rows.map((row) => row.group.value === "none")) }; },
    restore(answer) {
      questions.criteria.forEach((criterion, i) => cards.forEach((card, position) => {
        const value = answer.ratings?.[criterion.name]?.[position];
        if (value) card.rows[i].group.value = value;
        else if (value === null && (answer.none ? answer.none[position]?.[i] : true)) card.rows[i].group.value = "none";
      }));
      (answer.acceptable ?? []).forEach((value, i) => { if (value !== null && cards[i]?.accept) cards[i].accept.value = value; });
      remarks.restore(answer);
    },
    stop() { seen?.stop(); },
    keys,
    help: [[`1 to ${questions.scale}`, t("rate the focused line, then go to the next")], ["n", t("not applicable")], ["j or k", t("next, previous line")], ...remarks.help],
  };
}
