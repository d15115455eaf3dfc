// Mark steps: correct, neutral or wrong; a wrong one gets a reason and a better text, and a model can go on from there.

import { api } from "../api.js";
import { announce, h, segments, textOf, uid } from "../dom.js";
import { Remarks, promptPart } from "./parts.js";

const FINISH = [["solution", "Solution"], ["found-error", "Has an error"], ["bad-problem", "Bad problem"], ["give-up", "Cannot tell"]];

export function stepScreen(view, ctx) {
  const questions = view.task.questions;
  const texts = view.steps[0];
  const remarks = new Remarks(questions, ctx);
  let current = 0;
  let regenerated = false;
  const finish = segments({ legend: "In the end", css: "compact fit", options: FINISH, onchange: () => { finishChosen = true; ctx.changed(); } });
  let finishChosen = false;
  const steps = texts.map((text, n) => {
    const mark = segments({
      legend: `Step ${n + 1}`, css: "compact fit", hideLegend: true,
      options: [[1, "Correct", "+", `Step ${n + 1}: correct`], [0, "Neutral", "0", `Step ${n + 1}: neutral`], [-1, "Wrong", "-", `Step ${n + 1}: wrong`]],
      onchange: () => { current = n; draw(); ctx.changed(); },
    });
    const reasonId = uid("why"), rewriteId = uid("rewrite");
    const reason = h("textarea", { id: reasonId, rows: 2, oninput: ctx.changed });
    const rewrite = h("textarea", { id: rewriteId, rows: 3, oninput: ctx.changed });
    const flagged = h("input", { type: "checkbox", onchange: ctx.changed });
    const note = h("p", { class: "hint", role: "status" });
    const again = h("button", { type: "button", onclick: () => regenerate(n) }, "Regenerate from here");
    if (ctx.generation || ctx.preview) {
      again.setAttribute("aria-disabled", "true");
      note.textContent = ctx.generation ?? "";
    }
    const fix = h("div", { class: "fix" },
      h("div", {}, h("label", { class: "label", for: reasonId }, "What is wrong?"), reason),
      h("div", {}, h("label", { class: "label", for: rewriteId }, "A better step"), rewrite),
      h("label", { class: "check" }, flagged, "Unsure: somebody should look at this step"),
      h("div", { class: "row" }, again, note));
    const element = h("li", { class: "step", tabindex: "-1" },
      h("div", { class: "head" }, h("span", { class: "n" }, n + 1), h("div", { class: "text" }, textOf(text, ctx.raw)), mark.element), fix);
    element.addEventListener("focusin", () => { current = n; draw(); });
    return { mark, reason, rewrite, flagged, fix, element, again, note };
  });

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
    });
    if (!finishChosen) finish.value = firstWrong() >= 0 ? "found-error" : steps.every((step) => step.mark.value !== undefined) ? "solution" : undefined;
  }
  function go(n) {
    current = Math.max(0, Math.min(steps.length - 1, n));
    const { inputs, value } = steps[current].mark;
    inputs.get(value ?? 1).focus({ preventScroll: true });
    steps[current].element.scrollIntoView({ block: "nearest" });
    draw();
  }
  function give(label) {
    const at = current;
    steps[at].mark.choose(label);
    if (label === -1) steps[at].reason.focus();
    else if (at < last()) go(at + 1);
  }
  async function regenerate(n) {
    const step = steps[n];
    if (step.again.getAttribute("aria-disabled") === "true") return announce(step.note.textContent);
    if (!step.rewrite.value.trim()) {
      step.note.textContent = "Write a better step first: the model goes on from it.";
      return step.rewrite.focus();
    }
    step.again.setAttribute("aria-disabled", "true");
    step.note.textContent = "The model writes…";
    try {
      const child = await api("POST", `${ctx.base}/assignments/${view.task.assignment_id}/regenerate`, { step: n, rewrite: step.rewrite.value }, { wait: 200_000 });
      regenerated = true;
      ctx.follow(child);
      step.note.textContent = "Written: the new steps come next, after you submit these marks.";
      announce(step.note.textContent);
    } catch (error) {
      step.note.textContent = error.message;
    } finally {
      step.again.removeAttribute("aria-disabled");
    }
  }

  draw();
  return {
    stage: [promptPart(view, ctx), h("ol", { class: "steps", "aria-label": "Steps" }, steps.map((step) => step.element)), remarks.element],
    bar: [h("div", { class: "question row" }, finish.element, questions.first_error ? h("span", { class: "soft small" }, "Marking ends at the first wrong step") : null)],
    read() {
      const end = last();
      const missing = steps.slice(0, end + 1).findIndex((step) => step.mark.value === undefined);
      const marks = steps.map((step, n) => ({
        step: n, label: step.mark.value ?? null, reason: step.mark.value === -1 ? step.reason.value : "",
        rewrite: step.mark.value === -1 && step.rewrite.value.trim() ? step.rewrite.value : null, flagged: step.flagged.checked && step.mark.value === -1,
      })).slice(0, end + 1);
      const problem = missing >= 0 ? `Mark step ${missing + 1}.` : finish.value === undefined ? "Say how it ends." : remarks.problem;
      return { answer: { type: "step", marks, finish: finish.value ?? null, ...remarks.read() }, problem };
    },
    draft(answer) { return { ...answer, regenerated }; },
    restore(answer) {
      for (const mark of answer.marks ?? []) {
        const step = steps[mark.step];
        if (!step) continue;
        if (mark.label !== null) step.mark.value = mark.label;
        step.reason.value = mark.reason ?? "";
        step.rewrite.value = mark.rewrite ?? "";
        step.flagged.checked = mark.flagged ?? false;
      }
      if (answer.finish) { finish.value = answer.finish; finishChosen = true; }
      remarks.restore(answer);
      draw();
    },
    keys: {
      "+": () => give(1), "=": () => give(1), 0: () => give(0), "-": () => give(-1),
      j: () => go(current + 1), k: () => go(current - 1), ...remarks.keys,
    },
    help: [["+ 0 -", "correct, neutral, wrong; then the next step"], ["j or k", "next, previous step"], ...remarks.help],
  };
}
