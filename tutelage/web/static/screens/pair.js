// Compare two: how much better is one, is each acceptable, and what else the project asks.

import { diffElement } from "../diff.js";
import { h, segments, t, textOf } from "../dom.js";
import { Remarks, Seen, acceptable, promptPart, questionText, responseCard, stepThrough } from "./parts.js";

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

export function pairScreen(view, ctx) {
  const questions = view.task.questions;
  const steps = scale(questions.strength, questions.ties);
  const quick = questions.strength === 1;
  const cards = [0, 1].map((position) => {
    const accept = questions.acceptable ? acceptable(position, { ...ctx, single: false }, "ab"[position]) : null;
    return { accept, ...responseCard(view, position, ctx, { footer: accept ? [accept.element] : [] }) };
  });
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
  const groups = [main, ...cards.map((card) => card.accept).filter(Boolean), ...criteria.map(([, group]) => group), ...(remarks.confidence ? [remarks.confidence] : [])];
  const seen = ctx.settings.require_scroll && !ctx.preview ? new Seen(cards.map((card) => card.end), ctx.changed) : null;
  let diffing = false;

  function mark() {
    const value = main.value;
    cards[0].card.classList.toggle("picked", value < 0);
    cards[1].card.classList.toggle("picked", value > 0);
  }
  function toggleDiff() {
    diffing = !diffing;
    const [a, b] = view.task.responses.map((response) => response.text);
    cards.forEach((card, i) => card.body.replaceChildren(
      diffing ? diffElement(a, b, i ? "ins" : "del") : textOf(view.responses[i], ctx.raw), card.end));
  }

  const keys = { d: toggleDiff, j: () => stepThrough(groups, 1), k: () => stepThrough(groups, -1), ...remarks.keys };
  ["a", "b"].forEach((key, i) => { if (cards[i].accept) keys[key] = () => cards[i].accept.choose(cards[i].accept.value !== true); });
  steps.forEach(([value], i) => { keys[String(i + 1)] = () => main.choose(value); });
  if (quick) Object.assign(keys, { f: () => main.choose(-1), j: () => main.choose(1) });

  return {
    stage: [promptPart(view, ctx), h("div", { class: "responses two" }, cards.map((card) => card.card)),
      criteria.length ? h("section", { class: "card more" }, h("h2", {}, t("By criterion")), criteria.map(([, group]) => group.element)) : null,
      remarks.element],
    bar: [h("div", { class: "question" }, main.element)],
    read() {
      const said = cards.map((card) => card.accept?.value ?? null);
      const answer = {
        type: "pair", preference: main.value ?? 0, acceptable: questions.acceptable ? said : [],
        criteria: Object.fromEntries(criteria.filter(([, group]) => group.value !== undefined).map(([name, group]) => [name, group.value])),
        ...remarks.read(),
      };
      const problem = main.value === undefined ? t("Choose how they compare.")
        : questions.acceptable && said.includes(null) ? t("Say of each response whether it is acceptable.")
        : criteria.some(([, group]) => group.value === undefined) ? t("Compare by every criterion.") : remarks.problem ?? seen?.problem ?? null;
      return { answer, problem };
    },
    restore(answer) {
      if (answer.preference !== undefined && !answer.undecided) main.value = answer.preference;
      (answer.acceptable ?? []).forEach((value, i) => { if (value !== null && cards[i].accept) cards[i].accept.value = value; });
      for (const [name, group] of criteria) if (name in (answer.criteria ?? {})) group.value = answer.criteria[name];
      remarks.restore(answer);
      mark();
    },
    draft(answer) { return { ...answer, undecided: main.value === undefined }; },
    stop() { seen?.stop(); },
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
