// Questions with a live preview.

import { data, h, t } from "../dom.js";
import { bind, readForm, said } from "../forms.js";
import { SCREENS } from "../screens/index.js";

const SAMPLE = [
  [t("Bring the water to a boil."), t("Put the egg in and wait eight minutes."), t("Cool it under cold water.")],
  [t("Put the egg in cold water."), t("Wait until the water boils, then two minutes more."), t("Eat it.")],
  [t("Eggs are healthy."), t("Ask a cook.")],
];
const PROMPT = t("How do I boil an egg?");
const SHOWN = { pair: 2, rank: 3, rate: 2, step: 1, rewrite: 1, chat: 0 };

const questions = document.getElementById("questions-form");
const criteria = document.getElementById("criteria");

function criterionRow(criterion) {
  const field = (name, label, value) => h("label", { class: "field" }, h("span", { class: "label" }, label), h("input", { type: "text", value, dataset: { part: name }, oninput: preview }));
  const row = h("div", { class: "criterion-row" }, field("name", t("Name in the data"), criterion.name), field("title", t("Title"), criterion.title),
    field("description", t("Question"), criterion.description), field("low", t("1 means"), criterion.low), field("high", t("The highest means"), criterion.high),
    h("button", { type: "button", class: "quiet", "aria-label": t("Remove {title}", { title: criterion.title }), onclick: () => { row.remove(); preview(); } }, t("Remove")));
  return row;
}

function readSchema() {
  const schema = readForm(questions);
  schema.question ||= data.usual_question;
  schema.strength = Number(schema.strength);
  schema.criteria = [...criteria.children].map((row) => Object.fromEntries([...row.querySelectorAll("[data-part]")].map((input) => [input.dataset.part, input.value.trim()])));
  return schema;
}

function preview() {
  const schema = readSchema();
  for (const element of questions.querySelectorAll("[data-for]")) element.hidden = !element.dataset.for.split(" ").includes(schema.type);
  document.getElementById("criteria-part").hidden = !(schema.type === "rate" || (schema.type === "pair" && schema.compare_criteria));
  const texts = SAMPLE.slice(0, SHOWN[schema.type]);
  const rendered = (text) => ({ html: null, raw: text });
  const view = {
    task: {
      assignment_id: 0, item_id: 0, type: schema.type, thread: schema.type === "chat" ? [] : [{ role: "user", content: PROMPT }], plain_prompt: true,
      responses: texts.map((steps, position) => ({ position, text: steps.join("\n\n"), steps })), questions: schema,
    },
    thread: [rendered(PROMPT)], responses: texts.map((steps) => rendered(steps.join("\n\n"))), steps: texts.map((steps) => steps.map(rendered)),
  };
  const place = document.getElementById("preview");
  try {
    const screen = SCREENS[schema.type](view, { base: "", settings: data.settings, generation: null, version: "", raw: false, changed: () => {}, follow: () => {}, preview: true });
    place.replaceChildren(...screen.stage.filter(Boolean), h("div", { class: "card" }, ...screen.bar, h("p", { class: "soft small" }, t("A preview: nothing is stored."))));
  } catch { place.replaceChildren(h("p", { class: "soft" }, t("No preview for these questions yet."))); }
}

for (const criterion of data.schema.criteria) criteria.append(criterionRow(criterion));
document.getElementById("add-criterion").addEventListener("click", () => {
  criteria.append(criterionRow({ name: `criterion-${criteria.children.length + 1}`, title: t("New"), description: "", low: t("very bad"), high: t("very good") }));
  preview();
});
document.getElementById("default-criteria").addEventListener("click", () => { criteria.replaceChildren(...data.default_criteria.map(criterionRow)); preview(); });
questions.addEventListener("input", preview);
questions.addEventListener("submit", (event) => event.preventDefault());
bind(questions, { body: readSchema, then: (answer, form) => said(form, t("These are version {n} of the questions.", answer), "good") });
preview();

bind(document.getElementById("settings-form"), { done: t("Saved. Open pages take it over when they are reloaded.") });
bind(document.getElementById("guidelines-form"), { then: (answer, form) => said(form, t("These are version {n} of the guidelines.", answer), "good") });
