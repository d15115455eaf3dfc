// Files into the project.

import { api } from "../api.js";
import { h } from "../dom.js";
import { said } from "../forms.js";

const data = JSON.parse(document.getElementById("data").textContent);
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
