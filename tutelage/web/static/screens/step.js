// Mark steps: correct, neutral or wrong; a wrong one gets a reason, perhaps an earlier cause, and a better text, and a
// model can go on from there.

import { api } from "../api.js";
import { announce, h, segments, t, textOf, uid } from "../dom.js";
import { Remarks, asked, modelButton, promptPart } from "./parts.js";

const finishes = () => [["solution", t("right")], ["found-error", t("has an error")], ["bad-problem", t("the problem is broken")], ["give-up", t("I cannot tell")]];

export function stepScreen(view, ctx) {
  const questions = view.task.questions;
  const texts = view.steps[0];
  const remarks = new Remarks(questions, ctx, t("About the solution as a whole"));
  let current = 0;
  const finish = segments({ legend: t("The solution is:"), css: "compact fit beside", options: finishes(), onchange: () => { finishChosen = true; ctx.changed(); } });
  let finishChosen = false;
  const steps = texts.map((text, n) => {
    const mark = segments({
      legend: t("Step {n}", { n: n + 1 }), css: "compact fit", hideLegend: true,
      options: [[1, t("Correct"), "+", t("Step {n}: correct", { n: n + 1 })], [0, t("Neutral"), "0", t("Step {n}: neutral", { n: n + 1 })], [-1, t("Wrong"), "-", t("Step {n}: wrong", { n: n + 1 })]],
      onchange: () => { current = n; draw(); ctx.changed(); },
    });
    const reasonId = uid("why"), rewriteId = uid("rewrite"), causeId = uid("cause");
    const reason = h("textarea", { id: reasonId, rows: 2, oninput: ctx.changed });
    const rewrite = h("textarea", { id: rewriteId, rows: 3, oninput: ctx.changed });
    const flagged = h("input", { type: "checkbox", onchange: ctx.changed });
    const cause = h("select", { id: causeId, onchange: ctx.changed });
    const causes = h("div", { hidden: true }, h("label", { class: "label", for: causeId }, t("It follows from")), cause);
    const again = modelButton(t("Regenerate from here"), ctx, {
      lacking: () => (rewrite.value.trim() ? null : [t("Write a better step first: the model goes on from it."), rewrite]),
      writing: t("The model writes…"),
      write: () => regenerate(n, rewrite.value),
    });
    const fix = h("div", { class: "fix" },
      h("div", {}, h("label", { class: "label", for: reasonId }, t("What is wrong with step {n}?", { n: n + 1 })), reason),
      causes,
      h("div", {}, h("label", { class: "label", for: rewriteId }, t("A better step")), rewrite),
      h("label", { class: "check" }, flagged, t("Unsure: somebody should look at this step")),
      h("div", { class: "row" }, again.button, again.note));
    const element = h("li", { class: "step", tabindex: "-1" },
      h("div", { class: "head" }, h("span", { class: "n" }, n + 1), h("div", { class: "text" }, textOf(text, ctx.raw)), mark.element), fix);
    element.addEventListener("focusin", () => { current = n; draw(); });
    return { mark, reason, rewrite, flagged, cause, causes, fix, element };
  });

  const below = h("section", { class: "card", hidden: true });
  const wrongBefore = (n) => steps.slice(0, n).flatMap((step, k) => (step.mark.value === -1 ? [k] : []));
  const firstWrong = () => steps.findIndex((step) => step.mark.value === -1);
  const last = () => (questions.first_error && firstWrong() >= 0 ? firstWrong() : steps.length - 1);
  function draw() {
    const end = last();
    steps.forEach((step, n) => {
      step.element.classList.toggle("current", n === current);
      step.element.classList.toggle("beyond", n > end);
      if (step.mark.value === undefined) delete step.element.dataset.label;
      else step.element.dataset.label = String(step.mark.value);
      step.fix.hidden = step.mark.value !== -1;
      drawCauses(step, wrongBefore(n));
    });
    if (!finishChosen) finish.value = firstWrong() >= 0 ? "found-error" : steps.every((step) => step.mark.value !== undefined) ? "solution" : undefined;
  }
  /** The earlier wrong steps to choose from; what was chosen stays while it is among them. */
  function drawCauses(step, wrong) {
    step.causes.hidden = !wrong.length;
    if (step.offered === wrong.join()) return;
    const chosen = step.cause.value;
    step.offered = wrong.join();
    step.cause.replaceChildren(h("option", { value: "" }, t("nothing before it")), ...wrong.map((k) => h("option", { value: String(k) }, t("step {n}", { n: k + 1 }))));
    step.cause.value = wrong.includes(Number(chosen)) ? chosen : "";
  }
  /** What a model has written again, so that a reload does not hide it. */
  async function load() {
    if (ctx.preview) return;
    let written;
    try { written = await api("GET", `${ctx.base}/assignments/${view.task.assignment_id}/regenerations`); } catch { return; }
    below.hidden = !written.length;
    below.replaceChildren(h("h2", {}, t("Written again from your corrections")), ...written.map((child, i) => h("details", {},
      h("summary", {}, child.task.annotation_id ? t("Version {n}: marked", { n: i + 1 }) : t("Version {n}: to mark after this", { n: i + 1 })), textOf(child.responses[0], ctx.raw))));
  }
  function go(n) {
    current = Math.max(0, Math.min(steps.length - 1, n));
    steps[current].mark.focus();
    steps[current].element.scrollIntoView({ block: "nearest" });
    draw();
  }
  function give(label) {
    const at = current;
    steps[at].mark.choose(label);
    if (label === -1) steps[at].reason.focus();
    else if (at < last()) go(at + 1);
  }
  async function regenerate(n, rewrite) {
    const url = `${ctx.base}/assignments/${view.task.assignment_id}/regenerate`;
    ctx.follow(await api("POST", url, { step: n, rewrite }, { wait: 200_000 }));
    load();
    const said = t("Written: the new steps come next, after you submit these marks.");
    announce(said);
    return said;
  }

  draw();
  load();
  return {
    stage: [promptPart(view, ctx), h("ol", { class: "steps", "aria-label": t("Steps") }, steps.map((step) => step.element)), below, remarks.element],
    bar: [asked(view.task, questions.first_error ? h("span", { class: "soft small" }, t("Marking ends at the first wrong step")) : null, finish.element)],
    read() {
      const end = last();
      const missing = steps.slice(0, end + 1).findIndex((step) => step.mark.value === undefined);
      const marks = steps.map((step, n) => ({
        step: n, label: step.mark.value ?? null, reason: step.mark.value === -1 ? step.reason.value : "",
        rewrite: step.mark.value === -1 && step.rewrite.value.trim() ? step.rewrite.value : null, flagged: step.flagged.checked && step.mark.value === -1,
        caused_by: step.mark.value === -1 && step.cause.value !== "" ? Number(step.cause.value) : null,
      })).slice(0, end + 1);
      const problem = missing >= 0 ? t("Mark step {n}.", { n: missing + 1 }) : finish.value === undefined ? t("Say what the solution is.") : remarks.problem;
      return { answer: { type: "step", marks, finish: finish.value ?? null, ...remarks.read() }, problem };
    },
    restore(answer) {
      for (const mark of answer.marks ?? []) {
        const step = steps[mark.step];
        if (!step) continue;
        if (mark.label !== null) step.mark.value = mark.label;
        step.reason.value = mark.reason ?? "";
        step.rewrite.value = mark.rewrite ?? "";
        step.flagged.checked = mark.flagged ?? false;
      }
      draw();
      for (const mark of answer.marks ?? []) if (steps[mark.step] && typeof mark.caused_by === "number") steps[mark.step].cause.value = String(mark.caused_by);
      if (answer.finish) { finish.value = answer.finish; finishChosen = true; }
      remarks.restore(answer);
      draw();
    },
    keys: {
      "+": () => give(1), "=": () => give(1), 0: () => give(0), "-": () => give(-1),
      j: () => go(current + 1), k: () => go(current - 1), ...remarks.keys,
      r: () => (steps[current]?.fix.hidden === false ? steps[current].reason.focus() : remarks.keys.r?.()),
    },
    help: [["+ 0 -", t("correct, neutral, wrong; then the next step")], ["j or k", t("next, previous step")], ["r", t("write what is wrong with the step, or about the whole")]],
  };
}
