// The rounds of a refinement, as the screen of steps and the history of a problem show them: side by side with what changed.

import { diffElement } from "../diff.js";
import { h, seen, t } from "../dom.js";

export const HOW = {
  first: t("the model's first solution"), rewritten: t("from a rewritten step"), explained: t("from an explanation"),
  regenerated: t("a step written again"), written: t("written by a person"),
};
export const ERRORS = [["reasoning", t("Reasoning")], ["calculation", t("Calculation")], ["misreading", t("Misreading")], ["approach", t("Poor approach")]];
const LABELS = { 1: t("right"), 0: t("neutral"), "-1": t("wrong") };
const OUTCOMES = {
  accepted: [t("Accepted"), "good"], sound: [t("Sound, but the model is not right yet without help"), "warn"], "handed-up": [t("Handed up to the experts"), "warn"],
  written: [t("Written by an expert"), "good"], broken: [t("The problem is broken"), "bad"],
};

export const textOfRound = (round) => round.steps.map((step) => step.text).join("");
const errorWords = (kind) => ERRORS.find(([value]) => value === kind)?.[1];

/** How a refinement has ended, as a chip; null while it goes on. */
export const outcomeChip = ({ outcome }) => (outcome ? h("span", { class: `chip ${OUTCOMES[outcome][1]}` }, outcome === "sound" ? t("sound, not right yet without help") : OUTCOMES[outcome][0]) : null);

// What the rules say, in the reader's language; all else is what a person wrote.
const WHYS = {
  "nobody can say whether the answer is right": t("nobody can say whether the answer is right"), "not every step was marked": t("not every step was marked"),
  "the solution does not end": t("the solution does not end"), "every step is marked right, but the answer is wrong": t("every step is marked right, but the answer is wrong"),
};

/** In one sentence: how a refinement has ended, and why, where that says more. */
export const outcomeWords = ({ outcome, why }) => `${OUTCOMES[outcome][0]}${why && outcome !== "sound" ? `: ${(WHYS[why] ?? why).replace(/[.]$/, "")}` : ""}.`;

/** What was said of a step, below it. */
function saidOf(step) {
  const follows = step.label === -1 && step.caused_by !== null;
  const words = step.label === null ? t("not marked") : follows ? t("follows from step {n}", { n: step.caused_by + 1 }) : LABELS[step.label];
  const css = step.label === 1 ? "good" : step.label === -1 && !follows ? "bad" : "";
  const row = (name, text) => (text ? h("p", { class: "small said-of" }, h("span", { class: "soft" }, `${name} `), h("span", { class: "asis", dir: "auto" }, seen(text))) : null);
  return [h("span", { class: `chip ${css}` }, words), step.error ? h("span", { class: "chip" }, errorWords(step.error)) : null,
    row(t("What is wrong:"), step.explanation), row(t("Better:"), step.rewrite)];
}

/** The steps of a round with their marks; what differs from the round before (`earlier`) is marked, `later`: what goes after it. */
export function roundSteps(round, { earlier = null, later = null } = {}) {
  const other = earlier ?? later;
  return h("ol", { class: "round-steps" }, round.steps.map((step, n) => {
    const against = other?.steps[n]?.text ?? "";
    const text = !other || against === step.text ? h("div", { class: "asis", dir: "auto" }, seen(step.text.trimEnd()))
      : earlier ? diffElement(against.trimEnd(), step.text.trimEnd(), "ins") : diffElement(step.text.trimEnd(), against.trimEnd(), "del");
    const label = step.label === null ? "" : step.label === -1 && step.caused_by !== null ? "follows" : String(step.label);
    return h("li", { class: "round-step", dataset: { label } }, h("span", { class: "n" }, n + 1), h("div", {}, text, saidOf(step)));
  }));
}

/** In words: which round it is, how it came about, and from where on it is new. */
export function roundTitle(round) {
  const since = round.n > 1 && round.how !== "written" ? `, ${t("new from step {n} on", { n: round.since + 1 })}` : "";
  return `${t("Round {n}", { n: round.n })}: ${HOW[round.how]}${since}`;
}

/** A round that folds. */
export function roundPart(round, { open = false, ...against } = {}) {
  return h("details", { class: "round", open }, h("summary", {}, roundTitle(round)), roundSteps(round, against));
}

/** Two lamps: how often the model was right when it was asked again and told nothing. `asking`: it is being asked. */
export function lamps({ checks, checks_wanted: wanted, outcome }, { asking = false, judge } = {}) {
  const all = Array.from({ length: Math.max(outcome ? 0 : wanted, checks.length) }, (_, i) => checks[i] ?? null);
  const state = (check, i) => (check ? (check.right === null ? "open" : check.right ? "right" : "wrong") : asking && i === checks.length ? "asking" : "off");
  const WORDS = { open: t("waits for your word"), right: t("right"), wrong: t("wrong"), asking: t("being asked…"), off: t("not asked yet") };
  return h("div", { class: "lamps", role: "group", "aria-label": t("The model, told nothing") }, all.map((check, i) => {
    const at = state(check, i);
    return h("div", { class: "lamp", dataset: { state: at } }, h("p", {}, h("span", { class: "light", "aria-hidden": "true" }), t("Asked again, time {n}:", { n: i + 1 }), " ", h("strong", {}, WORDS[at])),
      check ? h("details", { open: at === "open" }, h("summary", { class: "small" }, t("What it answered")), h("div", { class: "asis small", dir: "auto" }, seen(check.text))) : null,
      at === "open" && judge ? h("div", { class: "row" }, h("button", { type: "button", onclick: () => judge(check.n, true) }, t("It is right"), h("kbd", { "aria-hidden": "true" }, "y")),
        h("button", { type: "button", onclick: () => judge(check.n, false) }, t("It is wrong"), h("kbd", { "aria-hidden": "true" }, "n"))) : null);
  }));
}
