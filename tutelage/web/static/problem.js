// The history of one problem: its rounds, one beside the other, what the model answered, and what experts can do.

import { api } from "./api.js";
import { ask } from "./dialog.js";
import { data, h, seen, t } from "./dom.js";
import { bind } from "./forms.js";
import { ERRORS, lamps, outcomeChip, outcomeWords, roundSteps, roundTitle } from "./screens/rounds.js";

const { problem } = data;
const url = `${data.base}/problems/${problem.root}`;
const ROLES = { expert: t("expert"), crowd: t("annotators"), judge: t("judge"), verifier: t("rule") };
const again = () => location.reload();
const minutes = (value) => t("{n} min", { n: value.toFixed(1) });

function head() {
  const answer = Array.isArray(problem.answer) ? problem.answer.join(", ") : problem.answer;
  const fact = (name, value) => (value === null || value === undefined || value === "" ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  return h("section", { class: "card" }, h("h2", {}, t("Problem")), h("div", { class: "asis", dir: "auto" }, seen(problem.prompt)),
    h("dl", { class: "facts problem-facts" }, fact(t("right answer"), answer), fact(t("kind of trap"), ERRORS.find(([kind]) => kind === problem.error)?.[1]), fact(t("model"), problem.model),
      fact(t("rounds"), problem.rounds.length), fact(t("looks, marks and rewrites"), problem.calls), fact(t("of people's time"), minutes(problem.minutes))),
    problem.trap ? h("p", { class: "small" }, h("span", { class: "soft" }, `${t("The trap:")} `), h("span", { class: "asis", dir: "auto" }, seen(problem.trap))) : null);
}

/** What is to be done now, for whoever may do it. */
function now() {
  const words = problem.outcome ? outcomeWords(problem) : null;
  const open = [null, "handed-up"].includes(problem.outcome);
  if (!data.teaches || !open) return problem.why || onward() ? h("div", { class: "notice row" }, h("p", {}, words), onward()) : null;
  const text = h("textarea", { name: "text", rows: 7, maxlength: 100_000, required: true });
  const form = h("form", { dataset: { url: `${url}/write` } }, h("label", { class: "field" }, h("span", { class: "label" }, t("The whole solution, step by step; every step counts as right")), text), h("button", { class: "primary" }, t("This is the solution")));
  bind(form, { then: again });
  return h("section", { class: "card" }, h("h2", {}, t("What now?")), words ? h("p", {}, words) : null,
    h("div", { class: "row" }, onward(), h("a", { class: "button", href: `${data.work}?problem=${problem.root}` }, t("Mark the last round anew and go on")),
      h("button", { type: "button", class: "danger", onclick: broken }, t("The problem is broken"))),
    h("details", {}, h("summary", {}, t("Write the solution yourself")), form));
}

/** Where somebody was interrupted: on with their own marks, or with asking the model again. */
function onward() {
  if (problem.outcome || !problem.assignment_id) return null;
  if (["mark", "go-on"].includes(problem.wants)) return h("a", { class: "button primary", href: `${data.work}?open=${problem.assignment_id}` }, t("Go on with it"));
  return problem.wants === "check" ? h("button", { type: "button", class: "primary", onclick: check }, t("Ask the model again")) : null;
}

async function check(event) {
  event.currentTarget.disabled = true;
  try { await api("POST", `${url}/check`, undefined, { wait: 200_000 }); } catch (error) { alert(error.message); }
  again();
}

async function judge(n, right) {
  try { await api("POST", `${url}/check/${n}`, { right }); } catch (error) { alert(error.message); }
  again();
}

async function broken() {
  const said = await ask({ title: t("The problem is broken"), intro: t("It is closed, and nothing of it is learnt from."), fields: [{ name: "why", label: t("What is wrong with it"), tall: true }], action: t("Close it"), danger: true });
  if (!said) return;
  try { await api("POST", `${url}/broken`, said); again(); } catch (error) { alert(error.message); }
}

function round(one, i) {
  const who = one.role ? [one.by, ROLES[one.role] ?? one.role].filter(Boolean).join(", ") : t("nobody has marked it yet");
  const right = one.right === null ? null : h("span", { class: `chip ${one.right ? "good" : "bad"}` }, one.right ? t("answer right") : t("answer wrong"));
  return h("section", { class: "card round-card" }, h("div", { class: "row" }, h("h2", {}, roundTitle(one)), right, one.finish === "length" ? h("span", { class: "chip warn" }, t("comes to no end")) : null),
    h("p", { class: "soft small" }, [t("{when} UTC", { when: one.made_at.slice(0, 16).replace("T", " ") }), who, one.minutes ? minutes(one.minutes) : ""].filter(Boolean).join(", ")),
    roundSteps(one, { earlier: i ? problem.rounds[i - 1] : null }));
}

const chip = outcomeChip(problem);
if (chip) document.getElementById("outcome").append(chip);
document.getElementById("problem").replaceChildren(...[head(), now(),
  h("div", { class: "rounds-beside", tabindex: "0", role: "group", "aria-label": t("Rounds") }, problem.rounds.map(round)),
  problem.checks.length ? h("section", { class: "card" }, h("h2", {}, t("Asked again, told nothing")), lamps(problem, data.teaches || problem.assignment_id ? { judge } : {})) : null].filter(Boolean));
