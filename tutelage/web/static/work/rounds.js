// After the last round of a refinement: the model is asked again and told nothing, one sees the lamps, and how it ends.

import { api } from "../api.js";
import { announce, data, h, kbd, t } from "../dom.js";
import { lamps, outcomeChip, outcomeWords } from "../screens/rounds.js";

const key = `tutelage:round:${data.user}:${data.project}`;

/** The assignment whose marks were on their way when the page went: opened again, so that the round is not forgotten. */
export const underWay = {
  get() { try { return Number(localStorage.getItem(key)) || 0; } catch { return 0; } },
  set(assignment) { try { localStorage.setItem(key, String(assignment)); } catch { /* no storage: the list of problems has it */ } },
  clear() { try { localStorage.removeItem(key); } catch { /* nothing was kept */ } },
};

/** Ask as often as it takes, and show what comes of it in `stage`; `next` goes on with the work. Gives the keys of the screen. */
export function afterRound(problem, { stage, next }) {
  const url = `${data.base}/problems/${problem.root}`;
  const note = h("p", { class: "hint", role: "status" });
  const place = h("div", { class: "more" });
  let asking = false;

  function draw() {
    const done = problem.outcome !== null;
    const again = !asking && problem.wants === "check" && note.textContent;
    const go = (words, primary = true) => h("button", { type: "button", class: primary ? "primary" : "", onclick: next }, words, kbd("Enter"));
    place.replaceChildren(...[h("div", { class: "row" }, h("h2", {}, done ? t("This problem is done") : problem.wants === "judge" ? t("Was the model right?") : t("Sound: is the model right without help, too?")), outcomeChip(problem)),
      problem.outcome && problem.why ? h("p", {}, outcomeWords(problem)) : null,
      problem.checks.length || !done ? lamps(problem, { asking, judge }) : null, note,
      h("div", { class: "row" }, again ? h("button", { type: "button", class: "primary", onclick: ask }, t("Ask again"), kbd("a")) : null, asking ? null : go(done ? t("Next") : t("Later: next item"), done),
        h("a", { class: "button quiet", href: `/p/${location.pathname.split("/")[2]}/problems/${problem.root}` }, t("Its history")))].filter(Boolean));
  }
  async function ask() {
    if (asking) return;
    asking = true;
    note.textContent = "";
    try {
      while (problem.wants === "check") {
        draw();
        announce(t("The model is asked again…"));
        problem = await api("POST", `${url}/check`, undefined, { wait: 200_000 });
      }
    } catch (error) { note.textContent = error.message; }
    asking = false;
    tell();
  }
  async function judge(n, right) {
    try { problem = await api("POST", `${url}/check/${n}`, { right }); } catch (error) { note.textContent = error.message; }
    if (problem.wants === "check") return ask();
    tell();
  }
  function tell() {
    draw();
    announce(note.textContent || (problem.outcome ? outcomeWords(problem) : problem.wants === "judge" ? t("Was the model right?") : ""));
  }
  const judging = (right) => { const open = problem.checks.find((check) => check.right === null); if (open) judge(open.n, right); };

  stage.replaceChildren(h("section", { class: "card after-round" }, place));
  if (problem.wants === "check") ask();
  else tell();
  return { Enter: () => { if (!asking) next(); }, y: () => judging(true), n: () => judging(false), a: () => { if (problem.wants === "check") ask(); } };
}
