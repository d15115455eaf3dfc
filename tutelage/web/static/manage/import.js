// Files into the project: shown as they would be understood, then stored.

import { api } from "../api.js";
import { data, h, t } from "../dom.js";
import { said } from "../forms.js";

const SHOWN_BAD = 20; // rows that were not taken
const KINDS = {
  prompts: t("prompts"), responses: t("responses"), preference: t("preferences"), scores: t("scores of responses"),
  suggestions: t("suggested answers"), refinements: t("refinements"), raw: t("a raw export"),
};
const UNITS = { line: t("line"), row: t("row"), document: t("document") };
const form = document.getElementById("import-form");
const button = form.querySelector("button");
const shown = document.getElementById("import-preview");
const list = document.getElementById("bad-lines");
let asked = 0;

const columns = () => Object.fromEntries(form.elements.columns.value.split("\n").map((line) => line.split("=").map((part) => part.trim())).filter(([ours, theirs]) => ours && theirs));

/** The file goes up as it is: how its text is written is the server's to find out. */
function send(what) {
  const file = form.elements.file.files[0];
  const query = { kind: form.elements.kind.value, name: file.name, encoding: form.elements.encoding.value, columns: JSON.stringify(columns()) };
  return api("POST", `${data.base}/import${what}?${new URLSearchParams(query)}`, file, { type: "application/octet-stream", wait: 600_000 });
}
const place = (one) => `${UNITS[one.unit] ?? one.unit} ${one.line}`;
function notes(done, first = []) {
  const seen = new Set(first.map((one) => one.line));
  const unused = Object.entries(done.unused).map(([name, n]) => t("The column “{name}” of {n} rows is not used.", { name, n }));
  const others = done.bad.filter((one) => !seen.has(one.line));
  const bad = others.slice(0, SHOWN_BAD).map((one) => `${place(one)}: ${one.why}`);
  if (others.length > SHOWN_BAD) bad.push(t("and {n} more", { n: others.length - SHOWN_BAD }));
  const mended = done.mended.slice(0, SHOWN_BAD).map((one) => t("{place}, taken otherwise than it stands there: {what}", { place: place(one), what: one.why }));
  if (done.mended.length > SHOWN_BAD) mended.push(t("and {n} more", { n: done.mended.length - SHOWN_BAD }));
  list.replaceChildren(...[...unused, ...mended, ...bad].map((note) => h("li", {}, note)));
}
const outcome = (done) => done.needs && !done.new && !done.there ? done.needs : t("{new} new, {there} were there already, {bad} not taken.", { new: done.new, there: done.there, bad: done.bad.length });

function row(one) {
  if (one.why) return h("li", { class: "not-taken" }, h("span", { class: "where" }, place(one)), h("p", {}, one.why));
  const parts = Object.entries(one.parts).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", { dir: "auto" }, text)));
  return h("li", {}, h("span", { class: "where" }, place(one)), h("dl", {}, parts));
}
function proposal(found) {
  if (!found.proposed) return null;
  const use = h("button", { type: "button", onclick: () => { form.elements.encoding.value = found.proposed; preview(); } }, t("Read it as {encoding}", { encoding: found.proposed }));
  return h("div", { class: "notice warn row" }, h("p", {}, t("Some rows are no {encoding} text.", { encoding: found.encoding })), use);
}
async function preview() {
  const turn = ++asked;
  button.hidden = true;
  list.replaceChildren();
  shown.replaceChildren();
  if (!form.elements.file.files[0]) return said(form, "");
  said(form, t("Reading…"));
  try {
    const found = await send("/preview");
    if (turn !== asked) return;
    const done = found.imported;
    const what = [found.file, found.encoding, KINDS[found.kind]].filter(Boolean).join(", ");
    const ready = done.new > 0 || done.there > 0;
    said(form, `${what}. ${found.more ? t("Of the first {n} rows:", { n: found.rows }) : ""} ${outcome(done)} ${ready ? t("Nothing is stored yet.") : ""}`, done.bad.length || done.needs ? "warn" : "");
    shown.replaceChildren(...[proposal(found), h("ol", { class: "understood" }, found.first.map(row))].filter(Boolean));
    notes(done, found.first);
    button.hidden = !ready;
  } catch (error) {
    if (turn !== asked) return;
    said(form, error.message, "bad");
    if (error.message.includes("not UTF-8 text")) shown.replaceChildren(proposal({ encoding: "utf-8", proposed: "windows-1252" })); // the line of names
  }
}
form.addEventListener("change", preview);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (button.hidden) return preview();
  const turn = ++asked;
  button.disabled = true;
  said(form, t("Importing…"));
  try {
    const done = await send("");
    if (turn !== asked) return;
    said(form, outcome(done), done.bad.length || done.mended.length || Object.keys(done.unused).length ? "warn" : "good");
    document.getElementById("part-build").dataset.stale = "yes"; // there is more to build items from
    shown.replaceChildren(...(done.new ? [h("p", { class: "row" }, h("a", { class: "button", href: "#build" }, t("Go on to build items")))] : []));
    notes(done);
    button.hidden = true;
  } catch (error) { said(form, error.message, "bad"); }
  button.disabled = false;
});
