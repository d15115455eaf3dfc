// Exports: what would be written and what is left out, then the file.

import { api } from "./api.js";
import { data, h, t } from "./dom.js";
import { bind, readForm, said } from "./forms.js";

const form = document.getElementById("export-form");
const rows = document.getElementById("rows");
const counts = document.getElementById("counts");
const files = document.getElementById("files");
const REASONS = {
  tie: t("ties"), "unsettled dispute": t("unsettled disputes"), redacted: t("redacted"), gold: t("gold items"),
  "no label": t("responses without a label"), "neutral step": t("with a neutral step"), "tie: transcripts have none": t("ties"),
  "prompt has tools, which transcripts cannot say": t("prompts with tools"), "response was cut, which transcripts cannot say": t("responses that were cut"),
  "conversation is not human, assistant, human, ...": t("conversations that are not person, model, person, …"), "text contains the transcript's own marks": t("texts with the marks of transcripts in them"),
  "text begins or ends with white space, which transcripts lose": t("texts with white space at an end"), "both responses are the same": t("equal responses"),
  "tie: the format has none": t("ties"), "prompt has tools, which the format cannot say": t("prompts with tools"), "response was cut, which the format cannot say": t("responses that were cut"),
  "conversation is not one question, as the format wants it": t("conversations that are not one question"), "text that readers would take for something else": t("texts that this form would change"),
  "fewer than two responses are left to rank": t("fewer than two responses left to rank"), "no rating": t("without a rating"), "not every step is marked": t("with steps that are not marked"),
  "rating by a criterion that is no column of the format": t("ratings by criteria that this form does not know"),
};
let timer = 0, asked = 0;

/** Only what the chosen format knows is shown, and sent. */
function fit() {
  for (const element of form.querySelectorAll("[data-for]")) {
    element.hidden = !element.dataset.for.split(" ").includes(form.elements.format.value);
    for (const field of element.querySelectorAll("select, input")) field.disabled = element.hidden;
  }
}
function counted(found) {
  const left = Object.entries(found.left_out);
  const rows = found.whole ? t("{n} rows", { n: found.rows }) : t("more than {n} rows", { n: found.rows });
  return [
    h("p", { class: `notice ${found.rows ? "" : "warn"}` }, found.rows || !found.whole ? rows : t("Nothing would be written.")),
    found.whole ? null : h("p", { class: "soft small" }, t("This project is large: only its beginning was counted.")),
    left.length ? h("p", { class: "soft small" }, t("Left out:"), " ", left.map(([why, n]) => `${REASONS[why] ?? t("split {name}", { name: why.replace("split ", "") })}: ${n}`).join(", ")) : null,
  ].filter(Boolean);
}
async function preview() {
  fit();
  const turn = ++asked;
  try {
    const found = await api("POST", `${data.base}/exports/preview`, readForm(form));
    if (turn !== asked) return; // of an older choice
    counts.replaceChildren(...counted(found));
    rows.replaceChildren(...found.first.map((row) => h("pre", { class: "json", tabindex: "0" }, JSON.stringify(row, null, 2))));
  } catch (error) {
    if (turn !== asked) return;
    counts.replaceChildren(h("p", { class: "notice warn" }, error.message));
    rows.replaceChildren();
  }
}
form.addEventListener("input", () => {
  files.replaceChildren(); // they are of another choice
  said(form, "");
  clearTimeout(timer);
  timer = setTimeout(preview, 150);
});
bind(form, {
  url: `${data.base}/exports`,
  then: (done) => {
    const at = `${data.base}/exports/${done.name}`;
    said(form, t("{n} rows", { n: done.rows }), "good");
    const file = h("a", { href: `${at}/file`, download: true }, t("The file again"));
    files.replaceChildren(h("p", { class: "row small" }, file, h("a", { href: `${at}/manifest`, download: true }, t("Its manifest: settings, counts, hash"))),
      h("p", { class: "soft small hash" }, `sha256 ${done.sha256}`));
    file.click();
  },
});
preview();
