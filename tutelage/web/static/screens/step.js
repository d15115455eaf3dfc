// Mark steps: correct, neutral or wrong. The first wrong step that is wrong by itself (a root) says what is wrong; steps behind
// it follow from it unless one says otherwise, and are not asked about. From a root there are three ways on.

import { api } from "../api.js";
import { announce, h, kbd, segments, t, textOf, uid } from "../dom.js";
import { Remarks, asked, promptPart } from "./parts.js";
import { ERRORS, roundPart } from "./rounds.js";

const FOLLOWS = "f"; // wrong because of an earlier wrong step
const finishes = () => [["solution", t("right")], ["found-error", t("has an error")], ["bad-problem", t("the problem is broken")], ["give-up", t("I cannot tell")]];

/** One step: its mark, and what is asked where it is wrong by itself. `ways`: the buttons by which one goes on from it. */
function stepPart(n, text, ctx, { touched, ways }) {
  const mark = segments({
    legend: t("Step {n}", { n: n + 1 }), css: "compact fit", hideLegend: true,
    options: [[1, t("Correct"), "+", t("Step {n}: correct", { n: n + 1 })], [0, t("Neutral"), "0", t("Step {n}: neutral", { n: n + 1 })], [-1, t("Wrong"), "-", t("Step {n}: wrong", { n: n + 1 })],
      [FOLLOWS, t("Follows"), "f", t("Step {n}: wrong because of an earlier step", { n: n + 1 })]],
    onchange: () => { part.auto = false; touched(); },
  });
  const area = (prefix, rows) => h("textarea", { id: uid(prefix), rows, oninput: ctx.changed });
  const reason = area("why", 2), rewrite = area("rewrite", 2), causeId = uid("cause");
  const flagged = h("input", { type: "checkbox", onchange: ctx.changed });
  const kind = segments({ legend: t("Kind of error"), css: "compact fit kinds", options: ERRORS.map(([value, words], i) => [value, words, String(i + 1)]), onchange: ctx.changed });
  const cause = h("select", { id: causeId, onchange: touched });
  const causes = h("span", { hidden: true }, h("label", { class: "visually-hidden", for: causeId }, t("It follows from")), cause);
  const after = h("p", { class: "soft small after", hidden: true }, h("span", {}), " ", causes);
  const labelled = (field, ...words) => h("div", {}, h("label", { class: "label", for: field.id }, words), field);
  const fix = h("div", { class: "fix" },
    labelled(reason, t("What is wrong with step {n}?", { n: n + 1 }), " ", kbd("r")), kind.element,
    labelled(rewrite, t("A better step"), " ", kbd("e")),
    h("label", { class: "check" }, flagged, t("Unsure: somebody should look at this step")), ways);
  const element = h("li", { class: "step", tabindex: "-1" },
    h("div", { class: "head" }, h("span", { class: "n" }, n + 1), h("div", { class: "text" }, textOf(text, ctx.raw)), mark.element), after, fix);
  const part = { mark, reason, rewrite, flagged, kind, cause, causes, after, fix, element, auto: false, offered: "" };
  return part;
}

export function stepScreen(view, ctx) {
  const questions = view.task.questions;
  const remarks = new Remarks(questions, ctx, t("About the solution as a whole"));
  let current = 0, busy = false, finishChosen = false, problem = null, whyNot = "";
  const finish = segments({ legend: t("The solution is:"), css: "compact fit beside", options: finishes(), onchange: () => { finishChosen = true; ctx.changed(); } });
  const ways = waysOn();
  const steps = view.steps[0].map((text, n) => {
    const place = h("div", { class: "ways-place" });
    const part = stepPart(n, text, ctx, { touched: () => { current = n; draw(); ctx.changed(); }, ways: place });
    part.element.addEventListener("focusin", () => { if (current !== n) { current = n; draw(); } });
    return Object.assign(part, { place });
  });
  const before = h("div", { class: "more before", hidden: true });
  const beside = h("div", { class: "round-view" }, before, h("ol", { class: "steps", "aria-label": t("Steps") }, steps.map((step) => step.element)));

  const roots = (end = steps.length) => steps.slice(0, end).flatMap((step, k) => (step.mark.value === -1 ? [k] : []));
  const last = () => (questions.first_error && roots().length ? roots()[0] : steps.length - 1);

  function draw() {
    steps.forEach((step, n) => {
      const earlier = roots(n);
      if (earlier.length && step.mark.value === undefined) { step.auto = true; step.mark.value = FOLLOWS; }
      if (!earlier.length && step.mark.value === FOLLOWS) { step.auto = false; step.mark.value = undefined; }
    });
    const end = last(), [root] = roots();
    steps.forEach((step, n) => drawStep(step, n, end));
    if (root === undefined) ways.element.remove();
    else if (ways.element.parentElement !== steps[root].place) steps[root].place.append(ways.element);
    if (!finishChosen) finish.value = root !== undefined ? "found-error" : steps.every((step) => step.mark.value !== undefined) ? "solution" : undefined;
  }
  function drawStep(step, n, end) {
    const { value } = step.mark, earlier = roots(n);
    step.element.classList.toggle("current", n === current);
    step.element.classList.toggle("beyond", n > end || value === FOLLOWS);
    if (value === undefined) delete step.element.dataset.label;
    else step.element.dataset.label = value === FOLLOWS ? "-1" : String(value);
    step.mark.inputs.get(FOLLOWS).closest("label").hidden = !earlier.length;
    step.fix.hidden = value !== -1;
    step.after.hidden = value !== FOLLOWS;
    drawCause(step, earlier);
  }
  /** The earlier roots to choose from: the nearest, unless another one was chosen. */
  function drawCause(step, earlier) {
    step.causes.hidden = earlier.length < 2;
    const chosen = step.cause.value;
    if (step.offered !== earlier.join()) {
      step.offered = earlier.join();
      step.cause.replaceChildren(...earlier.map((k) => h("option", { value: String(k) }, t("step {n}", { n: k + 1 }))));
      step.cause.value = earlier.includes(Number(chosen)) && chosen !== "" ? chosen : String(earlier.at(-1) ?? "");
    }
    const k = Number(step.cause.value) + 1;
    step.after.firstChild.textContent = earlier.length < 2 ? t("Follows from step {n}: nothing to say here, it is written anew anyway.", { n: k }) : t("Follows from");
  }

  /** The ways on from a root: three in which a model goes on, and one to the experts. */
  function waysOn() {
    const note = h("p", { class: "hint", role: "status" });
    const button = (words, key, act) => h("button", { type: "button", onclick: act }, words, kbd(key));
    const buttons = [button(t("Insert my step"), "i", () => goOn("rewritten")), button(t("Regenerate with the explanation"), "x", () => goOn("explained")), button(t("Regenerate"), "w", () => goOn("regenerated"))];
    const up = button(t("Hand up to an expert"), "h", () => handUp());
    const element = h("div", { class: "ways", role: "group", "aria-label": t("How to go on") }, h("div", { class: "row" }, buttons, up), note);
    if (!ctx.round) element.hidden = true;
    return { element, note, buttons, up };
  }
  function drawWays(words) {
    const why = ctx.generation || whyNot;
    for (const one of ways.buttons) one.setAttribute("aria-disabled", String(busy || Boolean(why)));
    ways.up.setAttribute("aria-disabled", String(busy || Boolean(whyNot)));
    ways.note.textContent = words ?? why ?? "";
  }
  function tell(words, field) {
    drawWays(words);
    announce(words);
    field?.focus();
    return false;
  }
  /** Whether one can go on from the root in this way; if not, it is said. */
  function mayGoOn(how) {
    const [root] = roots();
    if (!ctx.round || busy) return false;
    if (ctx.generation || whyNot) return tell(ctx.generation || whyNot);
    if (root === undefined) return tell(t("Mark the step that is wrong first."));
    const { reason, rewrite } = steps[root];
    current = root;
    if (!reason.value.trim() && how !== "rewritten") return tell(t("Say what is wrong with step {n} first.", { n: root + 1 }), reason);
    if (how === "rewritten" && !rewrite.value.trim()) return tell(t("Write the better step first: it stays, and all behind it is written anew."), rewrite);
    if (how === "rewritten" && !reason.value.trim()) return tell(t("Say what is wrong with step {n} first.", { n: root + 1 }), reason);
    const { problem: missing } = read();
    return missing ? tell(missing) : true;
  }
  async function goOn(how) {
    if (!mayGoOn(how)) return;
    await send({ how }, t("Your marks are stored; the model writes…"));
  }
  async function handUp() {
    if (!ctx.round || busy || whyNot) return;
    const { problem: missing } = read();
    if (missing) return tell(missing);
    const why = await ctx.askWhy();
    if (why === null) return;
    await send({ hand_up: why }, t("Saving…"));
  }
  async function send(more, words) {
    busy = true;
    drawWays(words);
    announce(words);
    try { await ctx.round(more); }
    catch (error) { busy = false; tell(error.message); }
  }

  /** The rounds before this one, so that one sees what has changed; what was right before is marked so already. */
  async function load() {
    if (ctx.preview || !ctx.round) return;
    try { ({ problem, why_not: whyNot } = await api("GET", `${ctx.base}/assignments/${view.task.assignment_id}/refinement`)); } catch { return; }
    drawWays();
    if (!problem) return;
    const at = problem.rounds.findIndex((round) => round.item_id === view.task.item_id);
    const [round, previous] = [problem.rounds[at], problem.rounds[at - 1]];
    if (!previous) return;
    before.hidden = false;
    before.replaceChildren(h("h2", { class: "label" }, t("Before")), ...problem.rounds.slice(0, at).map((one) => roundPart(one, { open: one === previous && matchMedia("(min-width: 1000px)").matches, later: one === previous ? round : null })));
    beside.classList.add("two");
    steps.forEach((step, n) => {
      step.element.classList.toggle("new", n >= round.since);
      const kept = n < round.since ? previous.steps[n]?.label : n === round.since && round.how === "rewritten" ? 1 : null;
      if (step.mark.value === undefined && kept !== null && kept !== undefined && kept >= 0) step.mark.value = kept;
    });
    const open = steps.findIndex((step) => step.mark.value === undefined);
    if (open >= 0) current = open;
    draw();
    ctx.changed();
  }
  function go(n) {
    current = Math.max(0, Math.min(steps.length - 1, n));
    steps[current].mark.focus();
    steps[current].element.scrollIntoView({ block: "nearest" });
    draw();
  }
  function give(label) {
    const at = current;
    if (!steps[at].mark.choose(label)) return;
    if (label === -1) steps[at].reason.focus();
    else if (at < last()) go(at + 1);
  }
  const rootPart = () => steps[steps[current].mark.value === -1 ? current : roots()[0]];
  function read() {
    const end = last();
    const missing = steps.slice(0, end + 1).findIndex((step) => step.mark.value === undefined);
    const mute = roots(end + 1).find((k) => !steps[k].reason.value.trim());
    const marks = steps.slice(0, end + 1).map((step, n) => markOf(step, n));
    const lacking = missing >= 0 ? t("Mark step {n}.", { n: missing + 1 }) : mute !== undefined ? t("Say what is wrong with step {n}.", { n: mute + 1 })
      : finish.value === undefined ? t("Say what the solution is.") : remarks.problem;
    return { answer: { type: "step", marks, finish: finish.value ?? null, ...remarks.read() }, problem: lacking };
  }
  function markOf(step, n) {
    const { value } = step.mark, root = value === -1;
    return {
      step: n, label: value === FOLLOWS ? -1 : value ?? null, reason: root ? step.reason.value : "", rewrite: root && step.rewrite.value.trim() ? step.rewrite.value : null,
      flagged: root && step.flagged.checked, caused_by: value === FOLLOWS ? Number(step.cause.value) : null, error: root ? step.kind.value ?? null : null,
    };
  }
  function restore(answer) {
    const given = (answer.marks ?? []).filter((mark) => steps[mark.step]);
    for (const mark of given) {
      const step = steps[mark.step];
      if (mark.label !== null) step.mark.value = typeof mark.caused_by === "number" ? FOLLOWS : mark.label;
      step.reason.value = mark.reason ?? "";
      step.rewrite.value = mark.rewrite ?? "";
      step.flagged.checked = mark.flagged ?? false;
      step.kind.value = mark.error ?? undefined;
    }
    draw();
    for (const mark of given) if (typeof mark.caused_by === "number") steps[mark.step].cause.value = String(mark.caused_by);
    if (answer.finish) { finish.value = answer.finish; finishChosen = answer.finish !== (roots().length ? "found-error" : "solution"); }
    remarks.restore(answer);
    draw();
  }

  draw();
  drawWays();
  load();
  const kinds = Object.fromEntries(ERRORS.map(([value], i) => [i + 1, () => { const part = rootPart(); if (part) { part.kind.value = value; ctx.changed(); announce(ERRORS[i][1]); } }]));
  return {
    stage: [promptPart(view, ctx), beside, remarks.element],
    bar: [asked(view.task, questions.first_error ? h("span", { class: "soft small" }, t("Marking ends at the first wrong step")) : null, finish.element)],
    read, restore,
    /** Whether a submit is that of a round of a refinement. */
    get inRound() { return Boolean(problem); },
    keys: {
      "+": () => give(1), "=": () => give(1), 0: () => give(0), "-": () => give(-1), f: () => { if (roots(current).length) give(FOLLOWS); },
      j: () => go(current + 1), k: () => go(current - 1), ...remarks.keys, ...kinds,
      r: () => (rootPart() ? rootPart().reason.focus() : remarks.keys.r?.()), e: () => rootPart()?.rewrite.focus(),
      i: () => { goOn("rewritten"); }, x: () => { goOn("explained"); }, w: () => { goOn("regenerated"); }, h: () => { handUp(); },
    },
    help: [["+ 0 -", t("correct, neutral, wrong; then the next step")], ["f", t("wrong only because of an earlier step")], ["j or k", t("next, previous step")],
      ["r", t("write what is wrong with the step, or about the whole")], ["1 to 4", t("the kind of error")], ["e", t("write a better step")],
      ["i", t("insert that step and let the model go on")], ["x", t("let the model write the step again from the explanation")], ["w", t("let the model write it again, told nothing")], ["h", t("hand it up to an expert")]],
  };
}
