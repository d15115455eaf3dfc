// Compare two: how much better is one, is each acceptable, and what else the project asks.

import { diffElement } from "../diff.js";
import { h, seen, segments, t, textOf } from "../dom.js";
import { Cards, Remarks, promptPart, questionText, stepThrough } from "./parts.js";

const WORDS = {
  better: (side) => t("{side} better", { side }), slightly: (side) => t("{side} slightly better", { side }), much: (side) => t("{side} much better", { side }),
};
// With fewer steps the outer ones keep their sign only: 1 is "better", 2 is "slightly" and "much".
const DEGREES = { 1: ["better"], 2: ["slightly", "much"], 3: ["slightly", "better", "much"] };

/** [[preference, words], ...] from "A much better" to "B much better". */
export function scale(strength, ties) {
  const degrees = DEGREES[strength];
  const left = degrees.map((word, i) => [-(i + 1), WORDS[word]("A")]).reverse();
  const right = degrees.map((word, i) => [i + 1, WORDS[word]("B")]);
  return [...left, ...(ties ? [[0, t("Equal")]] : []), ...right];
}

/** What an assistant says of a response, below it and apart from it. */
function toldPart(help, position) {
  return help?.said[position] ? [h("aside", { class: "told" }, h("span", { class: "soft small" }, t("An assistant says:")), h("div", { class: "asis", dir: "auto" }, seen(help.said[position])))] : [];
}

export function pairScreen(view, ctx) {
  const questions = view.task.questions;
  const steps = scale(questions.strength, questions.ties);
  const quick = questions.strength === 1;
  const cards = new Cards(view, ctx, { key: (position) => "ab"[position], more: (position) => ({ below: toldPart(view.task.help, position) }) });
  const main = segments({
    legend: questionText(view.task),
    options: steps.map(([value, words], i) => [value, words, String(i + 1), words]),
    onchange: () => { mark(); ctx.changed(); },
  });
  const criteria = questions.compare_criteria
    ? questions.criteria.map((criterion) => [criterion.name, segments({
        legend: `${criterion.title}: ${criterion.description}`, css: "compact",
        options: steps.map(([value, words]) => [value, words, undefined, `${criterion.title}: ${words}`]), onchange: ctx.changed })])
    : [];
  const remarks = new Remarks(questions, ctx);
  const groups = [main, ...cards.groups(), ...criteria.map(([, group]) => group), ...(remarks.confidence ? [remarks.confidence] : [])];
  let diffing = false;

  function mark() {
    cards.elements[0].classList.toggle("picked", main.value < 0);
    cards.elements[1].classList.toggle("picked", main.value > 0);
  }
  function toggleDiff() {
    diffing = !diffing;
    const [a, b] = view.task.responses.map((response) => response.text);
    cards.all.forEach((card, i) => card.body.replaceChildren(
      diffing ? diffElement(a, b, i ? "ins" : "del") : textOf(view.responses[i], ctx.raw), card.end));
  }

  const keys = { d: toggleDiff, j: () => stepThrough(groups, 1), k: () => stepThrough(groups, -1), ...remarks.keys };
  if (questions.acceptable) Object.assign(keys, { a: () => cards.toggle(0), b: () => cards.toggle(1) });
  steps.forEach(([value], i) => { keys[String(i + 1)] = () => main.choose(value); });
  if (quick) Object.assign(keys, { f: () => main.choose(-1), j: () => main.choose(1) });

  return {
    stage: [promptPart(view, ctx), h("div", { class: "responses two" }, cards.elements),
      criteria.length ? h("section", { class: "card more" }, h("h2", {}, t("By criterion")), criteria.map(([, group]) => group.element)) : null,
      remarks.element],
    bar: [h("div", { class: "question" }, main.element)],
    read() {
      const answer = {
        type: "pair", preference: main.value ?? 0, acceptable: cards.acceptable,
        criteria: Object.fromEntries(criteria.filter(([, group]) => group.value !== undefined).map(([name, group]) => [name, group.value])),
        ...remarks.read(),
      };
      const problem = main.value === undefined ? t("Choose how they compare.")
        : cards.problem ?? (criteria.some(([, group]) => group.value === undefined) ? t("Compare by every criterion.") : remarks.problem ?? cards.seen.problem);
      return { answer, problem };
    },
    restore(answer) {
      if (answer.preference !== undefined && !answer.undecided) main.value = answer.preference;
      cards.restore(answer);
      for (const [name, group] of criteria) if (name in (answer.criteria ?? {})) group.value = answer.criteria[name];
      remarks.restore(answer);
      mark();
    },
    draft(answer) { return { ...answer, undecided: main.value === undefined }; },
    stop() { cards.seen.stop(); },
    keys,
    actions: [[t("Differences"), "d", toggleDiff, t("Mark the words that differ")]],
    help: [
      [`1 to ${steps.length}`, t("from “{first}” to “{last}”", { first: steps[0][1], last: steps.at(-1)[1] })],
      ...(quick ? [["f or j", t("A better, B better")]] : [["j or k", t("next, previous question")]]),
      ...(questions.acceptable ? [["a or b", t("response A, B: acceptable; again: not")]] : []),
      ["d", t("mark the words that differ")], ...remarks.help,
    ],
  };
}
