// Exports: what would be written, then the files.

import { api } from "./api.js";
import { h } from "./dom.js";
import { bind, readForm, said } from "./forms.js";

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("export-form");
const rows = document.getElementById("rows");
const files = document.getElementById("files");
let timer = 0;

function fit() {
  for (const element of form.querySelectorAll("[data-for]")) {
    const wanted = element.dataset.for.split(" ").includes(form.elements.format.value);
    element.hidden = !wanted;
  }
}
async function preview() {
  fit();
  try {
    const found = await api("POST", `${data.base}/exports/preview`, readForm(form));
    rows.replaceChildren(...(found.length ? found.map((row) => h("pre", { class: "json", tabindex: "0" }, JSON.stringify(row, null, 2))) : [h("p", { class: "soft" }, "Nothing would be written.")]));
  } catch (error) { rows.replaceChildren(h("p", { class: "notice warn" }, error.message)); }
}
form.addEventListener("input", () => {
  files.replaceChildren(); // they are of another choice
  clearTimeout(timer);
  timer = setTimeout(preview, 150);
});
bind(form, {
  url: `${data.base}/exports`,
  then: (done) => {
    const at = `${data.base}/exports/${done.name}`;
    const left = Object.entries(done.left_out).map(([why, n]) => `${n} ${why}`).join(", ");
    said(form, `${done.rows} rows.${left ? ` Left out: ${left}.` : ""}`, "good");
    files.replaceChildren(h("div", { class: "row" },
      h("a", { class: "button primary", href: `${at}/file`, download: true }, "Download the rows"), h("a", { class: "button", href: `${at}/manifest`, download: true }, "Manifest")),
      h("p", { class: "soft small" }, `sha256 ${done.sha256}`));
  },
});
preview();
