// Writing a problem that a model falls into: options, which are right, where the trap is; trying it, keeping it.

import { api } from "./api.js";
import { announce, data, h, kbd, seen, segments, t, uid } from "./dom.js";
import { read } from "./draft.js";
import { ERRORS } from "./screens/rounds.js";

const MOST = 12;
const key = `tutelage:author:${data.user}:${data.project}`;
const LETTERED = /^\s*(?:[(]?(?:[A-La-l]|\d{1,2})[.):]+\s+|[-*•]\s+)/;
const empty = () => ({ text: "", options: ["", ""], right: [], layout: "lines", answer: "", trap: "", error: "reasoning" });

let trial = null; // what the models made of the problem as it stands
let busy = false;

const field = (words, element, hint) => h("div", { class: "field" }, h("label", { class: "label", for: element.id }, words), element, hint ? h("span", { class: "hint" }, hint) : null);
const area = (prefix, rows) => h("textarea", { id: uid(prefix), rows, maxlength: 20_000, oninput: changed });
const text = area("text", 5), trap = area("trap", 2);
const answer = h("input", { type: "text", id: uid("answer"), maxlength: 2000, oninput: changed });
const kind = segments({ legend: t("Kind of trap"), css: "compact fit kinds", options: ERRORS, onchange: changed });
const layout = segments({ legend: t("Options stand"), css: "compact fit", options: [["lines", t("one below the other")], ["inline", t("in the line of the text")]], onchange: changed });
const list = h("div", { class: "options", role: "group", "aria-label": t("Options") });
const answerField = field(t("The right answer"), answer, t("Without options: a number or a formula."));
const note = h("p", { class: "hint", role: "status" });
const tried = document.getElementById("tried");
const keepNote = h("p", { class: "hint" });
const tryButton = h("button", { type: "button", class: "primary", onclick: tryIt }, t("Try it"), kbd(t("Ctrl+Enter")));

const rows = () => [...list.querySelectorAll(".option")];
const inputOf = (row) => row.querySelector('input[type="text"]'), boxOf = (row) => row.querySelector('input[type="checkbox"]');

function draft() {
  const filled = rows().filter((row) => inputOf(row).value.trim());
  return {
    text: text.value, options: filled.map((row) => inputOf(row).value.trim()), right: filled.flatMap((row, i) => (boxOf(row).checked ? [i] : [])),
    layout: layout.value ?? "lines", answer: filled.length ? "" : answer.value, trap: trap.value, error: kind.value ?? "reasoning",
  };
}

function changed() {
  const said = draft();
  try { localStorage.setItem(key, JSON.stringify({ ...said, answer: answer.value })); } catch { /* no storage: it is on the screen */ }
  answerField.hidden = said.options.length > 0;
  if (trial) { trial = null; tried.replaceChildren(h("p", { class: "soft" }, t("The problem has changed since it was tried: try it again."))); }
}

function option(value = "", right = false) {
  const input = h("input", { type: "text", value, maxlength: 2000, oninput: () => { spread(input); changed(); }, onkeydown: (event) => { if (event.key === "Enter" && !event.ctrlKey) { event.preventDefault(); following(row); } } });
  const box = h("input", { type: "checkbox", checked: right, onchange: changed });
  const row = h("div", { class: "row option" }, h("span", { class: "letter" }), input, h("label", { class: "right-one" }, box, h("span", {}, t("right"))),
    h("button", { type: "button", class: "quiet", onclick: () => { row.remove(); number(); changed(); } }, "×"));
  input.addEventListener("paste", (event) => pasted(event, row));
  return row;
}

/** Letters and names, by place. */
function number() {
  rows().forEach((row, i) => {
    const letter = String.fromCharCode(65 + i);
    row.querySelector(".letter").textContent = letter;
    inputOf(row).setAttribute("aria-label", t("Option {letter}", { letter }));
    boxOf(row).setAttribute("aria-label", t("Option {letter} is right", { letter }));
    row.querySelector("button").setAttribute("aria-label", t("Take option {letter} away", { letter }));
  });
  more.hidden = rows().length >= MOST;
}

function spread(input) { input.value = input.value.replace(/[\r\n]+/g, " "); }

function following(row) {
  const next = row.nextElementSibling;
  if (next) return inputOf(next).focus();
  addOption();
}

function addOption() {
  if (rows().length >= MOST) return;
  const row = option();
  list.append(row);
  number();
  inputOf(row).focus();
}

/** Several lines are several options; letters before them go. */
function pasted(event, row) {
  const lines = event.clipboardData.getData("text").split(/\r?\n/).map((line) => line.replace(LETTERED, "").trim()).filter(Boolean);
  if (lines.length < 2) return;
  event.preventDefault();
  const made = lines.slice(0, MOST - rows().length + 1).map((line) => option(line));
  row.replaceWith(...made);
  for (const one of rows()) if (!inputOf(one).value && rows().length > Math.max(2, lines.length)) one.remove();
  number();
  changed();
  inputOf(made.at(-1)).focus();
}

const more = h("button", { type: "button", class: "quiet", onclick: addOption }, t("One more option"));

/** Do something of which a sentence tells what went wrong. */
async function doing(words, act) {
  if (busy) return;
  busy = true;
  tryButton.setAttribute("aria-disabled", "true");
  say(words);
  try { await act(); } catch (error) { say(error.message); } finally { busy = false; tryButton.removeAttribute("aria-disabled"); }
}
/** Beside the button that was pressed, too: on a phone the other one is far away. */
function say(words) { note.textContent = keepNote.textContent = words; announce(words); }

function tryIt() {
  return doing(t("The models answer…"), async () => {
    trial = await api("POST", `${data.base}/author/try`, draft(), { wait: 600_000 });
    drawTrial();
    const wrong = trial.models.flatMap((model) => model.answers).filter((one) => !one.right).length;
    say(wrong ? t("{n} answers are wrong.", { n: wrong }) : t("No answer is wrong: make it harder."));
  });
}

function modelPart({ model, answers }) {
  const right = answers.filter((one) => one.right).length;
  const share = Math.round((100 * right) / answers.length);
  return h("section", { class: "card" }, h("div", { class: "row" }, h("h3", {}, model), h("span", { class: `chip right ${right === answers.length ? "good" : right ? "warn" : "bad"}` }, t("{share} % right", { share }))),
    answers.map((one, i) => h("details", { class: "small" }, h("summary", {}, `${t("Answer {n}", { n: i + 1 })}: ${one.finish === "length" ? t("comes to no end") : one.right ? t("right") : t("wrong")}`), h("div", { class: "asis", dir: "auto" }, seen(one.text)))));
}

function drawTrial() {
  const fails = trial.models.some((model) => model.answers.some((one) => !one.right));
  const whose = segments({ legend: t("Who refines it"), css: "compact fit", options: [["me", t("I do")], ["experts", t("the experts")]] });
  whose.value = "me";
  const keep = (anyway) => h("button", { type: "button", class: anyway ? "" : "primary", onclick: () => keepIt(whose.value, anyway) }, anyway ? t("Keep it all the same") : t("Keep this problem"));
  tried.replaceChildren(h("h2", {}, t("What the models make of it")), ...trial.models.map(modelPart),
    h("section", { class: "card" }, whose.element, fails ? null : h("p", { class: "hint" }, t("No model fails it, so there is nothing to learn from it yet.")), h("div", { class: "row" }, keep(!fails)), keepNote));
  tried.querySelector("h2").setAttribute("tabindex", "-1");
  tried.querySelector(".card:last-child button").focus();
}

function keepIt(whose, anyway) {
  if (anyway && !confirm(t("No model fails this problem. Keep it all the same?"))) return undefined;
  return doing(t("Saving…"), async () => {
    const { root } = await api("POST", `${data.base}/author/problems`, { draft: draft(), trial: trial.name, whose, anyway });
    trial = null;
    fill(empty());
    changed();
    const place = location.pathname.replace(/author$/, "");
    const link = h("a", { class: "button primary", href: whose === "me" ? `${place}work` : `${place}problems/${root}` }, whose === "me" ? t("Mark its first round") : t("See it"));
    tried.replaceChildren(h("div", { class: "notice good" }, h("p", {}, t("Kept.")), h("div", { class: "row" }, link, h("button", { type: "button", onclick: () => { tried.replaceChildren(); text.focus(); } }, t("Write another one")))));
    link.focus();
    say(t("Kept."));
  });
}

function fill(said) {
  text.value = said.text ?? "";
  trap.value = said.trap ?? "";
  answer.value = said.answer ?? "";
  kind.value = said.error ?? "reasoning";
  layout.value = said.layout ?? "lines";
  const options = said.options?.length ? said.options : ["", ""];
  list.replaceChildren(...options.map((value, i) => option(value, said.right?.includes(i))));
  number();
}

document.getElementById("write").replaceChildren(h("section", { class: "card" }, field(t("The problem"), text),
  h("h2", {}, t("Options")), h("p", { class: "soft small" }, t("Tick every one that is right. Several lines pasted into one become several options.")), list, h("p", {}, more), h("div", { class: "field" }, layout.element, h("span", { class: "hint" }, t("As the model is used to them."))), answerField,
  field(t("Where its trap is"), trap, t("For those who refine it; no model is told.")), h("div", { class: "field" }, kind.element), h("div", { class: "row" }, tryButton), note));
fill({ ...empty(), ...(read(key) ?? {}) });
changed();
if (data.generation) { say(t("No model is loaded: start the server with models=PATH to generate here.")); tryButton.setAttribute("aria-disabled", "true"); busy = true; }
document.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); tryIt(); } });
