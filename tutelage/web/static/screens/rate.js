// Rate by criteria: a row of numbers per criterion and response, with words at the ends, or "not applicable".

import { h, letter, segments, t } from "../dom.js";
import { Cards, Remarks, asked, promptPart, stepThrough } from "./parts.js";

export function rateScreen(view, ctx) {
  const questions = view.task.questions;
  const count = view.task.responses.length;
  const remarks = new Remarks(questions, ctx);
  const values = Array.from({ length: questions.scale }, (_, i) => i + 1);
  const ends = (criterion) => [t("1 = {words}", { words: criterion.low }), t("{highest} = {words}", { highest: questions.scale, words: criterion.high })];
  const scales = new Set(questions.criteria.map((criterion) => ends(criterion).join(", ")));
  /** A row to rate one response by one criterion. */
  function rating(criterion, position) {
    const about = count === 1 ? "" : `${t("Response {letter}", { letter: letter(position) })}, `;
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
    return { ...criterion, group, element };
  }
  const rows = view.task.responses.map((_, position) => questions.criteria.map((criterion) => rating(criterion, position)));
  const cards = new Cards(view, ctx, { more: (position) => ({ below: [h("div", { class: "criteria" }, rows[position].map((row) => row.element))] }) });
  const groups = cards.groups((position) => rows[position].map((row) => row.group));

  function give(value) {
    const ratings = rows.flat().map((row) => row.group);
    let at = ratings.findIndex((group) => group.element.contains(document.activeElement));
    if (at < 0) at = Math.max(0, ratings.findIndex((group) => group.value === undefined));
    ratings[at].choose(value);
    ratings[at + 1]?.focus();
    ratings[at + 1]?.element.scrollIntoView({ block: "nearest" });
  }
  const keys = { j: () => stepThrough(groups, 1), k: () => stepThrough(groups, -1), n: () => give("none"), ...remarks.keys };
  for (const value of values) keys[value === 10 ? "0" : String(value)] = () => give(value);
  function unrated() {
    const position = rows.findIndex((own) => own.some((row) => row.group.value === undefined));
    if (position < 0) return null;
    const what = rows[position].find((row) => row.group.value === undefined).title;
    return count === 1 ? t("Rate “{what}”.", { what }) : t("Rate “{what}” of response {letter}.", { what, letter: letter(position) });
  }
  const read = (value) => (value === "none" || value === undefined ? null : value);

  return {
    stage: [promptPart(view, ctx), h("div", { class: "responses" }, cards.elements), remarks.element],
    bar: [asked(view.task, scales.size === 1 ? h("span", { class: "soft small" }, [...scales][0]) : null)],
    read() {
      const ratings = Object.fromEntries(questions.criteria.map((criterion, i) => [criterion.name, rows.map((own) => read(own[i].group.value))]));
      const problem = unrated() ?? cards.problem ?? remarks.problem ?? cards.seen.problem;
      return { answer: { type: "rate", ratings, acceptable: cards.acceptable, ...remarks.read() }, problem };
    },
    draft(answer) { return { ...answer, none: rows.map((own) => own.map((row) => row.group.value === "none")) }; },
    restore(answer) {
      rows.forEach((own, position) => own.forEach(({ name, group }, i) => {
        const value = answer.ratings?.[name]?.[position];
        if (value) group.value = value;
        else if (value === null && (answer.none ? answer.none[position]?.[i] : true)) group.value = "none";
      }));
      cards.restore(answer);
      remarks.restore(answer);
    },
    stop() { cards.seen.stop(); },
    keys,
    help: [[`1 to ${questions.scale}`, t("rate the focused line, then go to the next")], ["n", t("not applicable")], ["j or k", t("next, previous line")], ...remarks.help],
  };
}
