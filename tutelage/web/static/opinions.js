// What the annotators said of an item in conflict: folded away until one has an answer of one's own (or asks), names
// hidden, judges last.  And what was settled before.

import { api } from "./api.js";
import { showDialog } from "./dialog.js";
import { announce, h, inOrder, letter, seen, t } from "./dom.js";
import { scale } from "./screens/pair.js";

const LISTED = 200; // as many as the server lists

/** An answer in a few words. */
export function summary(answer) {
  switch (answer.type) {
    case "pair": return scale(3, true).find(([value]) => value === answer.preference)[1];
    case "rank": return inOrder(answer.ranks);
    case "rate": return Object.entries(answer.ratings).map(([name, values]) => `${name}: ${values.map((value) => value ?? t("n/a")).join(" / ")}`).join(", ");
    case "step": return answer.marks.map((mark) => `${mark.step + 1}${{ 1: "+", 0: "○", "-1": "−" }[mark.label]}`).join("  ");
    case "rewrite": return t("a text of {n} characters", { n: answer.text.length });
    default: return t("the end of a chat");
  }
}

function opinion(one) {
  const accept = (one.answer.acceptable ?? []).map((value, i) => value === null ? null : value ? t("{response} acceptable", { response: letter(i) }) : t("{response} not acceptable", { response: letter(i) })).filter(Boolean);
  const kind = { human: t("Annotator"), simulated: t("Simulated annotator"), judge: t("Judge"), rule: t("Rule") }[one.kind];
  return h("div", { class: "opinion" },
    h("div", { class: "row" }, h("strong", {}, `${kind} ${one.number}`),
      h("span", {}, summary(one.answer)), accept.length ? h("span", { class: "soft small" }, accept.join(", ")) : null,
      one.answer.confidence ? h("span", { class: "soft small" }, t("sure: {n} of 9", { n: one.answer.confidence })) : null),
    one.answer.reason ? h("p", { class: "asis small" }, seen(one.answer.reason)) : null);
}

const when = (at) => new Date(at).toLocaleString(document.documentElement.lang || undefined, { dateStyle: "medium", timeStyle: "short" });

/** All opinions on a conflict, as a <details>: `open` shows them.  A settled one says what it was, and can be reopened. */
export function opinionsPart(conflict, open, reopen) {
  const judges = conflict.opinions.filter((one) => one.kind === "judge" || one.kind === "rule");
  const people = conflict.opinions.filter((one) => !judges.includes(one));
  const was = conflict.settled;
  return h("details", { class: "card opinions-card", open: open ?? Boolean(was) },
    h("summary", {}, h("h2", {}, t("What they said")), was ? null : h("span", { class: "soft small" }, t("{n} answers; shown once you have chosen yours, or now if you must", { n: conflict.opinions.length }))),
    was ? h("div", { class: "notice" }, h("p", {}, t("{name} settled this on {date}: {answer}. Settling again revises that.", { name: was.by, date: when(was.at), answer: summary(was.answer) })),
      h("button", { type: "button", onclick: reopen }, t("Reopen: back among the conflicts"))) : null,
    h("div", { class: "opinions" }, people.map(opinion)),
    judges.length ? h("details", {}, h("summary", { class: "soft" }, t("{n} by judges", { n: judges.length })), h("div", { class: "opinions" }, judges.map(opinion))) : null);
}

/** The settled ones, newest first; `open` shows one again. */
export async function settledDialog(base, open) {
  const rows = await api("GET", `${base}/settled`);
  const again = (row) => { dialog.close(); open(row.item_id).catch((error) => announce(error.message)); };
  const shown = (row) => h("div", { class: "opinion" }, h("p", { class: "clip" }, seen(row.prompt.slice(0, 200))),
    h("div", { class: "row" }, h("span", { class: "soft small" }, t("Item {n}, settled by {name}, {date}", { n: row.item_id, name: row.by, date: when(row.at) })),
      h("button", { type: "button", class: "right", onclick: () => again(row) }, t("Open again"))));
  const dialog = showDialog(t("Settled"), rows.length ? h("div", { class: "opinions" }, rows.map(shown), rows.length < LISTED ? null : h("p", { class: "soft" }, t("These are the latest {n}.", { n: LISTED }))) : h("p", { class: "soft" }, t("Nothing was settled yet.")));
}
