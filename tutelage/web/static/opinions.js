// What the annotators said of an item in conflict: names hidden, judges folded away until one wants to see them.

import { h, letter, seen } from "./dom.js";
import { scale } from "./screens/pair.js";

/** An answer in a few words. */
export function summary(answer) {
  switch (answer.type) {
    case "pair": return scale(3, true).find(([value]) => value === answer.preference)[1];
    case "rank": return ranking(answer.ranks);
    case "rate": return Object.entries(answer.ratings).map(([name, values]) => `${name}: ${values.map((value) => value ?? "n/a").join(" / ")}`).join(", ");
    case "step": return answer.marks.map((mark) => `${mark.step + 1}${{ 1: "+", 0: "○", "-1": "−" }[mark.label]}`).join("  ");
    default: return "";
  }
}

function ranking(ranks) {
  const order = [...new Set(ranks)].sort((a, b) => a - b);
  return order.map((rank) => ranks.flatMap((own, i) => (own === rank ? [letter(i)] : [])).join(" = ")).join(" > ");
}

// The services call opinions A, B, ...; on this screen letters are responses, so they become numbers.
function opinion(one) {
  const accept = (one.answer.acceptable ?? []).map((value, i) => value === null ? null : `${letter(i)} ${value ? "acceptable" : "not acceptable"}`).filter(Boolean);
  return h("div", { class: "opinion" },
    h("div", { class: "row" }, h("strong", {}, `${one.kind === "human" ? "Annotator" : one.kind[0].toUpperCase() + one.kind.slice(1)} ${one.label.charCodeAt(0) - 64}`),
      h("span", {}, summary(one.answer)), accept.length ? h("span", { class: "soft small" }, accept.join(", ")) : null,
      one.answer.confidence ? h("span", { class: "soft small" }, `sure: ${one.answer.confidence}/9`) : null),
    one.answer.reason ? h("p", { class: "asis small" }, seen(one.answer.reason)) : null);
}

/** All opinions on a conflict. */
export function opinionsPart(conflict) {
  const judges = conflict.opinions.filter((one) => one.kind === "judge" || one.kind === "rule");
  const people = conflict.opinions.filter((one) => !judges.includes(one));
  return h("section", { class: "card" }, h("h2", {}, "What they said"),
    h("div", { class: "opinions" }, people.map(opinion)),
    judges.length ? h("details", {}, h("summary", { class: "soft" }, `${judges.length} by judges (look after you have made up your mind)`), h("div", { class: "opinions" }, judges.map(opinion))) : null,
    conflict.settled ? h("p", { class: "soft small" }, "Settled before: settling again revises that.") : null);
}
