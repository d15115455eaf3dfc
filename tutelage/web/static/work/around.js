// What stands around an item: notices above it, and the bar below it.

import { data, h, kbd, seen, t } from "../dom.js";
import { summary } from "../opinions.js";

const adjudicating = data.mode === "adjudicate";
const notice = (css, ...parts) => h("div", { class: `notice ${css}`, role: "status" }, parts);

/** It was answered before: by oneself, perhaps sent back for correction. */
export function revisionNotice(task) {
  if (task.sent_back === null) return h("div", { class: "notice" }, h("p", {}, t("You have answered this before. Submitting again revises that answer; what you said first is kept in the records.")));
  return notice("warn", h("p", {}, h("strong", {}, t("Sent back to you:")), " ", h("span", { class: "asis", dir: "auto" }, seen(task.sent_back))),
    h("p", { class: "soft small" }, t("Correct your answer, or submit it again as it is if you stand by it.")));
}

export const expiredNotice = () => notice("warn", h("p", {}, t("Others have filled this item while you were away. Your answer will be kept as an extra.")));

/** What a model suggests, beside one's own answer: taken over by a click, never by itself. */
export function suggestionPart({ answer }, takeOver) {
  return h("div", { class: "notice row suggestion" }, h("span", { class: "soft" }, t("A model suggests:")),
    answer.type === "rewrite" ? h("div", { class: "asis", dir: "auto" }, seen(answer.text)) : h("strong", {}, summary(answer)),
    h("button", { type: "button", onclick: takeOver }, t("Take it over"), kbd("t")));
}

/** The bar of an item {screen, conflict, revising, left}; `acts` are what one can do, by their keys. */
export function barOf({ screen, conflict, revising, left }, acts) {
  const quiet = (words, key, act, title) => h("button", { class: key === "?" ? "quiet keys-help" : "quiet", type: "button", onclick: act, title }, words, kbd(key));
  const tool = (words, key, title) => quiet(words, key, acts[key], title);
  return h("div", { class: "inner" }, screen.bar,
    h("div", { class: "actions" },
      h("div", { class: "tools" },
        tool(adjudicating ? t("Next conflict") : revising ? t("Leave as it was") : t("Skip"), "s"), adjudicating ? null : tool(t("Flag"), "!"),
        tool(t("Undo"), "u", t("Open the last item again")), (screen.actions ?? []).map((one) => quiet(...one)),
        tool(t("Guidelines"), "g"), tool(t("As written"), "v", t("Show texts as they were written")), tool(t("Keys"), "?"),
        left ? h("span", { class: "soft small" }, t("{n} conflicts left", { n: left })) : null),
      h("span", { class: "hint", id: "hint", role: "status" }),
      h("button", { class: "primary", type: "button", id: "submit", onclick: acts.Enter, "aria-describedby": "hint" },
        adjudicating ? (conflict.settled ? t("Settle again") : t("Settle")) : revising ? t("Revise") : t("Submit"), kbd("Enter"))));
}

/** The keys everywhere, for the help. */
export const keysEverywhere = (suggested) => [
  ["Enter", adjudicating ? t("settle") : t("submit")], ["s", adjudicating ? t("next conflict") : t("skip, with a reason")], ["u", t("undo: open the last item again")],
  adjudicating ? ["l", t("what was settled")] : ["!", t("flag for the people who run the project")],
  ...(suggested ? [["t", t("take over what a model suggests")]] : []),
  ["g", t("guidelines")], ["v", t("texts as they were written")], ["?", t("this help")],
];
