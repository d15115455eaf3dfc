// Managing a project: questions with a live preview, settings, guidelines, people, items.

import { api } from "./api.js";
import { h } from "./dom.js";
import { bind, button, readForm, said, secretBox } from "./forms.js";
import { SCREENS } from "./screens/index.js";

const data = JSON.parse(document.getElementById("data").textContent);
const SAMPLE = [
  ["Bring the water to a boil.", "Put the egg in and wait eight minutes.", "Cool it under cold water."],
  ["Put the egg in cold water.", "Wait until the water boils, then two minutes more.", "Eat it."],
  ["Eggs are healthy.", "Ask a cook."],
];
const SHOWN = { pair: 2, rank: 3, rate: 2, step: 1, rewrite: 1, chat: 0 };

// ---- questions -------------------------------------------------------------------------------------------------------

const questions = document.getElementById("questions-form");
const criteria = document.getElementById("criteria");

function criterionRow(criterion) {
  const field = (name, label, value) => h("label", { class: "field" }, h("span", { class: "label" }, label), h("input", { type: "text", value, dataset: { part: name }, oninput: preview }));
  const row = h("div", { class: "criterion-row" }, field("name", "Name in the data", criterion.name), field("title", "Title", criterion.title),
    field("description", "Question", criterion.description), field("low", "1 means", criterion.low), field("high", "The highest means", criterion.high),
    h("button", { type: "button", class: "quiet", "aria-label": `Remove ${criterion.title}`, onclick: () => { row.remove(); preview(); } }, "Remove"));
  return row;
}

function readSchema() {
  const schema = readForm(questions);
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
      assignment_id: 0, item_id: 0, type: schema.type, thread: schema.type === "chat" ? [] : [{ role: "user", content: "How do I boil an egg?" }], plain_prompt: true,
      responses: texts.map((steps, position) => ({ position, text: steps.join("\n\n"), steps })), questions: schema,
    },
    thread: [rendered("How do I boil an egg?")], responses: texts.map((steps) => rendered(steps.join("\n\n"))), steps: texts.map((steps) => steps.map(rendered)),
  };
  const place = document.getElementById("preview");
  try {
    const screen = SCREENS[schema.type](view, { base: "", settings: data.settings, generation: null, version: "", raw: false, changed: () => {}, follow: () => {}, preview: true });
    place.replaceChildren(...screen.stage.filter(Boolean), h("div", { class: "card" }, ...screen.bar, h("p", { class: "soft small" }, "A preview: nothing is stored.")));
  } catch { place.replaceChildren(h("p", { class: "soft" }, "No preview for these questions yet.")); }
}

for (const criterion of data.schema.criteria) criteria.append(criterionRow(criterion));
document.getElementById("add-criterion").addEventListener("click", () => {
  criteria.append(criterionRow({ name: `criterion-${criteria.children.length + 1}`, title: "New", description: "", low: "very bad", high: "very good" }));
  preview();
});
document.getElementById("default-criteria").addEventListener("click", () => { criteria.replaceChildren(...data.default_criteria.map(criterionRow)); preview(); });
questions.addEventListener("input", preview);
questions.addEventListener("submit", (event) => event.preventDefault());
bind(questions, { body: readSchema, then: (answer, form) => said(form, `These are version ${answer.n} of the questions.`, "good") });
preview();

// ---- settings, guidelines, people ------------------------------------------------------------------------------------

bind(document.getElementById("settings-form"), { done: "Saved. Open pages take it over when they are reloaded." });
bind(document.getElementById("guidelines-form"), { then: (answer, form) => said(form, `These are version ${answer.n} of the guidelines.`, "good") });
bind(document.getElementById("invite-form"), {
  then: (answer, form) => form.after(secretBox("Send this link to one person; it works once.", location.origin + answer.path)),
  done: "Made.",
});
bind(document.getElementById("member-form"), {
  url: (form) => `${data.base}/members/${encodeURIComponent(form.elements.name.value.trim())}`, method: "PUT",
  body: (form) => ({ role: form.elements.role.value }), then: () => location.reload(),
});
for (const select of document.querySelectorAll("select[data-member]")) {
  const before = select.value;
  select.addEventListener("change", async () => {
    try { await api("PUT", `${data.base}/members/${encodeURIComponent(select.dataset.member)}`, { role: select.value }); }
    catch (error) { alert(error.message); select.value = before; }
  });
}
for (const element of document.querySelectorAll("[data-remove]"))
  button(element, () => api("DELETE", `${data.base}/members/${encodeURIComponent(element.dataset.remove)}`), { question: `Take ${element.dataset.remove} out of the project? Their answers stay.` });
for (const element of document.querySelectorAll("[data-active]"))
  button(element, () => api("PUT", `/api/v1/users/${encodeURIComponent(element.dataset.active)}/active`, { active: element.dataset.to === "yes" }),
    { question: element.dataset.to === "yes" ? null : `Lock ${element.dataset.active} out of this server? Their answers stay.` });

const remove = document.getElementById("delete-project");
if (remove) button(remove, () => api("DELETE", remove.dataset.url), { question: `Delete “${remove.dataset.title}”? It can be restored.`, then: () => location.assign("/") });

// ---- items -----------------------------------------------------------------------------------------------------------

const build = document.getElementById("build-form");
const size = build.elements.size;
function fitSize() {
  const type = build.elements.type.value;
  const fixed = { pair: 2, step: 1, chat: 0 }[type];
  size.min = { rank: 2, rate: 1, rewrite: 0 }[type] ?? fixed;
  size.max = { rank: 9, rate: 9, rewrite: 1 }[type] ?? fixed;
  size.value = fixed ?? { rank: 3, rate: 2, rewrite: 1 }[type];
  size.readOnly = fixed !== undefined;
}
build.elements.type.addEventListener("change", fitSize);
fitSize();
bind(build, {
  then: (answer, form) => said(form, `${answer.new} new items; ${answer.there} were there already; ${answer.short} prompts have too few different responses.`, answer.new ? "good" : "warn"),
});
bind(document.getElementById("priority-form"), { then: (answer, form) => said(form, `${answer.count} items have a new priority.`, "good") });

const SHOWN_BAD = 20; // rows that were not taken

const importing = document.getElementById("import-form");
importing.addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = importing.elements.file.files[0];
  if (!file) return said(importing, "Choose a file.", "bad");
  said(importing, "Importing…");
  try {
    const done = await api("POST", `${data.base}/import?${new URLSearchParams({ kind: importing.elements.kind.value, name: file.name })}`, file, { type: "application/octet-stream", wait: 600_000 });
    const unused = Object.entries(done.unused);
    said(importing, `${done.new} new, ${done.there} were there already, ${done.bad.length} were not taken.`, done.bad.length || unused.length ? "warn" : "good");
    const notes = [...unused.map(([name, count]) => `The column "${name}" of ${count} rows was not used.`), ...done.bad.slice(0, SHOWN_BAD).map((bad) => `${bad.unit} ${bad.line}: ${bad.why}`)];
    if (done.bad.length > SHOWN_BAD) notes.push(`and ${done.bad.length - SHOWN_BAD} more`);
    document.getElementById("bad-lines").replaceChildren(...notes.map((note) => h("li", {}, note)));
  } catch (error) { said(importing, error.message, "bad"); }
});
