// The page where people work: one item on the screen, the next one ready, answers safe before the screen changes.

import { ApiError, api } from "./api.js";
import { ask } from "./dialog.js";
import { announce, data, h, kbd, randomKey, t } from "./dom.js";
import { Drafts } from "./draft.js";
import { keptBox, keptRow } from "./kept.js";
import { Keys, helpDialog } from "./keys.js";
import { opinionsPart, settledDialog } from "./opinions.js";
import { Outbox } from "./outbox.js";
import { Reading } from "./reading.js";
import { SCREENS } from "./screens/index.js";
import { Tally } from "./tally.js";
import { barOf, expiredNotice, keysEverywhere, revisionNotice, suggestionPart } from "./work/around.js";
import { countWork, whileThere } from "./work/clock.js";
import { Queue } from "./work/queue.js";
import { afterRound, underWay } from "./work/rounds.js";

const adjudicating = data.mode === "adjudicate";
const SKIPS = [["too-hard", t("Too hard to tell")], ["not-my-field", t("Not my field")], ["unclear", t("The prompt is unclear")], ["broken", t("Something is broken")], ["other", t("Another reason")]];
const FLAGS = [["bad-prompt", t("Bad prompt")], ["unsafe", t("Unsafe content")], ["personal-data", t("Personal data")], ["unsure", t("I am unsure about my answer")], ["broken", t("Something is broken")]];
const HEARTBEAT = 60_000;

const stage = document.getElementById("stage");
const bar = document.getElementById("bar");
const status = document.getElementById("status");
const keys = new Keys();
const drafts = new Drafts(data.base, data.user, data.project);
const reading = new Reading(data.base, data.guideline_seen, data.guideline);
const tally = new Tally(adjudicating ? null : document.getElementById("tally"), data.base);
const outbox = new Outbox(data.store, data.user, `${data.project}:${data.mode}`, { state: drawState, sent: onSent, refused: onRefused });

let now = null; // what is on the screen: {view, screen, revising, shown, active, ...}
let lastDone = null; // for undo
let raw = false;
const queue = new Queue(outbox, () => now?.view);

// ---- from item to item -----------------------------------------------------------------------------------------------

async function start() {
  stage.replaceChildren(h("p", { class: "soft" }, t("Loading…")));
  const asked = new URLSearchParams(location.search);
  const problem = adjudicating ? 0 : Number(asked.get("problem")), wanted = Number(asked.get("open")) || (adjudicating || problem ? 0 : underWay.get());
  drawRefused();
  if (wanted || problem) {
    history.replaceState(null, "", location.pathname);
    try { return await (problem ? takeOverRound(problem) : adjudicating ? openConflict(wanted) : asked.get("open") ? open(wanted) : reopenRound(wanted)); }
    catch (error) { underWay.clear(); announce(error.message); }
  }
  await advance();
}

/** An own item again; a skip is taken back by opening it. */
async function opened(assignment) {
  const view = await api("GET", `${data.base}/assignments/${assignment}`);
  if (!view.task.skipped) return view;
  tally.count(0, 1);
  return api("POST", `${data.base}/assignments/${assignment}/unskip`);
}

async function open(assignment) { show({ view: await opened(assignment) }); }

/** The round whose marks were on their way, unless the solution has gone on from it, in another tab perhaps: then the new one. */
async function reopenRound(assignment) {
  const view = await opened(assignment);
  const { problem } = await api("GET", `${data.base}/assignments/${assignment}/refinement`);
  if (!problem || problem.rounds.at(-1).item_id === view.task.item_id) return show({ view });
  underWay.clear();
  await advance();
}

/** The last round of a problem that was handed up. */
async function takeOverRound(problem) { show({ view: await api("POST", `${data.base}/problems/${problem}/take`) }); }

/** One conflict, or one that was settled before. */
async function openConflict(item) {
  const conflict = await api("POST", `${data.base}/conflicts/${item}/open`);
  queue.lastConflict = 0; // what was on the screen comes again
  show({ view: conflict.view, conflict });
}

/** A settled one goes back among the conflicts. */
async function reopenConflict() {
  await act(() => api("POST", `${data.base}/conflicts/${now.view.task.item_id}/reopen`), async () => { announce(t("Reopened.")); await advance(); });
}

async function advance() {
  stop();
  try {
    const found = await queue.next();
    if (found.view) show(found);
    else finished();
  } catch (error) { unreachable(error); }
}

function show({ view, conflict = null, left = null }) {
  stop();
  raw = raw && now?.view === view;
  const task = view.task;
  now = { view, conflict, left, revising: task.annotation_id ?? null, shown: Date.now(), active: 0, expired: false };
  lock(false);
  const earlier = conflict?.settled?.answer ?? task.answer;
  const draft = earlier && adjudicating ? null : drafts.newest(task); // what was given has none: it is newer
  build(draft ?? (earlier ? { answer: earlier } : null));
  drawStrangers();
  queue.prefetch();
  scrollTo({ top: 0 });
  document.getElementById("main").focus({ preventScroll: true });
  const n = task.item_id;
  announce(adjudicating ? t("Conflict {n}", { n }) : now.revising ? t("Earlier answer {n}", { n }) : t("Item {n}", { n }));
}

/** While the next item is on its way nothing on this one can be pressed or changed: its answer is given. */
function lock(locked) { stage.inert = bar.inert = locked; }

function stop() { now?.screen?.stop?.(); }

/** Draw the screen of the item; `kept` is a draft {answer, active} or an earlier answer. */
function build(kept) {
  stop();
  const { view } = now;
  const ctx = {
    base: data.base, settings: data.settings, generation: data.generation && t("No model is loaded: start the server with models=PATH to generate here."), version: data.version, raw, changed,
    round: adjudicating ? null : sendRound, askWhy: whyHandUp,
  };
  now.screen = SCREENS[view.task.type](view, ctx);
  if (kept?.answer) now.screen.restore(kept.answer);
  if (kept?.active) now.active = Math.max(now.active, kept.active);
  if (now.conflict) now.opinions = opinionsPart(now.conflict, now.opinions?.open, reopenConflict);
  stage.className = "more";
  stage.replaceChildren(...[...notices(view.task), ...now.screen.stage, now.opinions,
    now.conflict && h("button", { type: "button", class: "quiet", onclick: showSettled }, t("Settled ones"), kbd("l"))].filter(Boolean));
  bar.hidden = false;
  bar.replaceChildren(barOf(now, keys.common));
  keys.screen = now.screen.keys;
  drawReady();
}

function notices(task) {
  const own = adjudicating ? [] : [reading.notice(task.newest_guideline), now.revising && revisionNotice(task), task.suggestion && suggestionPart(task.suggestion, takeOver)];
  return [...own, now.expired && expiredNotice()];
}

function takeOver() {
  const suggested = now?.view.task.suggestion;
  if (!suggested || now.done) return;
  const { answer } = now.screen.read();
  now.screen.restore({ ...answer, ...suggested.answer, reason: answer.reason });
  changed();
  announce(t("Taken over: check it before you submit."));
}

function finished() {
  empty(adjudicating ? t("No conflicts left") : t("Nothing left for you here"),
    [adjudicating ? t("Everything that annotators disagreed on is settled.")
      : data.offer ? t("Only programs have answered so far. Every item can have one annotator more: you.")
      : t("Everything is answered, or others are working on the rest. Thank you.")],
    [data.offer ? h("button", { type: "button", class: "primary", onclick: oneMore, title: t("One annotator more for every item") }, t("Label these yourself")) : null,
      h("a", { class: data.offer ? "button" : "button primary", href: "/" }, t("Back to your projects")),
      adjudicating ? h("button", { type: "button", onclick: showSettled }, t("Settled ones")) : null,
      h("button", { type: "button", onclick: start }, t("Look again")),
      lastDone ? h("button", { type: "button", onclick: undo }, lastDone.skipped ? t("Undo the skip") : t("Undo the last answer")) : null]);
  announce(t("Nothing left."));
}

/** No item on the screen: why, and what one can do. */
function empty(title, words, buttons) {
  now = null;
  bar.hidden = true;
  keys.screen = {};
  lock(false);
  stage.replaceChildren(h("div", { class: "empty card" }, h("h2", {}, title), h("p", { class: "soft" }, words), h("div", { class: "row" }, buttons)));
}

/** What only programs have answered gets room for a person. */
async function oneMore() {
  try { await api("POST", `${data.base}/items/one-more`); } catch (error) { return announce(error.message); }
  data.offer = false;
  start();
}

function unreachable(error) {
  const out = error instanceof ApiError && error.status === 401;
  const waiting = outbox.waiting().length;
  empty(out ? t("You are logged out") : error.temporary ? t("No connection") : t("This did not work"),
    [error.message, waiting ? ` ${t("Answers that wait in this browser, and will be sent: {n}.", { n: waiting })}` : ""],
    [out ? h("a", { class: "button primary", href: `/login?next=${encodeURIComponent(location.pathname)}` }, t("Log in"))
      : h("button", { type: "button", class: "primary", onclick: start }, t("Try again"))]);
  announce(error.message);
  if (error.temporary) setTimeout(retryQuietly, 3000);
}

async function retryQuietly() {
  if (now) return;
  try { await api("GET", "/healthz"); } catch { setTimeout(retryQuietly, 4000); return; }
  if (!now) start();
}

// ---- the answer as it stands -----------------------------------------------------------------------------------------

/** Seconds until a submit is taken: nobody reads that fast. */
const dwellLeft = () => (now.revising ? 0 : data.settings.dwell_seconds - (Date.now() - now.shown) / 1000);

function problem() {
  const { problem: unfinished } = now.screen.read();
  if (unfinished) return unfinished;
  const left = dwellLeft();
  return left > 0 ? t("Take your time: {n} s.", { n: Math.ceil(left) }) : null;
}

function drawReady() {
  if (!now || now.done) return;
  const why = problem();
  const hint = document.getElementById("hint");
  if (hint.textContent !== (why ?? "")) hint.textContent = why ?? "";
  document.getElementById("submit").setAttribute("aria-disabled", String(Boolean(why)));
  clearTimeout(now.timer);
  const left = dwellLeft();
  if (left > 0) now.timer = setTimeout(drawReady, Math.min(1000, left * 1000 + 20));
}

function changed() {
  if (!now || now.done) return;
  drawReady();
  if (now.opinions && !now.screen.read().problem) now.opinions.open = true; // one's own view stands: now the others'
  if (!adjudicating && (!now.revising || now.sentRound)) keepDraft();
}

function draftOf(screen) {
  const { answer } = screen.read();
  return screen.draft?.(answer) ?? answer;
}

function keepDraft() { drafts.save(now.view.task, { answer: draftOf(now.screen), active: now.active }); }

function drawState(state, text) {
  if (status.dataset.state === state && status.textContent === text) return;
  status.dataset.state = state;
  status.textContent = text;
}

// ---- what one can do -------------------------------------------------------------------------------------------------

function submit() {
  if (!now || now.done || document.querySelector("dialog[open]")) return;
  const why = problem();
  if (why) { drawReady(); announce(why); return; }
  if (now.screen.inRound || now.sentRound) return submitRound();
  const { task } = now.view;
  const entry = {
    url: now.revising && !adjudicating ? `${data.base}/annotations/${now.revising}/revise`
      : `${data.base}/assignments/${task.assignment_id}/${adjudicating ? "adjudicate" : "submit"}`,
    body: { answer: now.screen.read().answer, active_ms: Math.min(86_400_000, now.active), ui_version: data.version, ...about(task) },
    assignment: task.assignment_id, item: task.item_id, revision: Boolean(now.revising), corrects: task.sent_back !== null,
  };
  now.done = true;
  lock(true);
  for (const old of outbox.refused()) if (old.assignment === task.assignment_id && old.body.item_digest === task.item_digest) outbox.drop(old.key);
  lastDone = { assignment: task.assignment_id, key: outbox.add(entry).key, view: now.view, conflict: now.conflict, answer: entry.body.answer };
  drafts.forget(task);
  drawRefused();
  announce(t("Submitted."));
  advance();
}

/** Store the marks of a round; with `how` a model goes on, and its round is shown at once. Throws ApiError. */
async function sendRound(more) {
  const here = now, { task } = here.view;
  here.sentRound = true;
  underWay.set(task.assignment_id);
  const body = { answer: here.screen.read().answer, active_ms: Math.min(86_400_000, here.active), ui_version: data.version, ...about(task), ...more };
  const found = await api("POST", `${data.base}/assignments/${task.assignment_id}/round`, body, { key: randomKey(), wait: 400_000 });
  underWay.clear();
  drafts.forget(task);
  tally.count(here.revising ? 0 : 1, here.revising || found.view ? 0 : -1, found.view ? 1 : 0);
  data.offer = false;
  if (now !== here) return;
  here.done = true;
  lastDone = { assignment: task.assignment_id };
  drawState("saved", t("Saved"));
  const { problem, view } = found;
  if (view) show({ view });
  else if (problem && (problem.outcome || ["check", "judge"].includes(problem.wants))) showAfter(problem);
  else await advance();
}

async function submitRound() {
  lock(true);
  try { await sendRound({}); }
  catch (error) { lock(false); note(error.message); }
}

function showAfter(problem) {
  stop();
  lock(false);
  now = null;
  bar.hidden = true;
  keys.screen = afterRound(problem, { stage, next: advance });
  scrollTo({ top: 0 });
  document.getElementById("main").focus({ preventScroll: true });
}

async function whyHandUp() {
  const said = await ask({ title: t("Hand it up to an expert?"), intro: t("Your marks are kept. The experts see them, and what you say here."), fields: [{ name: "why", label: t("What stands in the way"), tall: true, required: false }], action: t("Hand up") });
  return said ? said.why : null;
}

const about = (task) => ({ store: task.store, item_digest: task.item_digest });

function onSent(entry, receipt) {
  data.offer = false; // no longer answered by programs only
  if (!receipt.repeated && !adjudicating) tally.count(entry.revision ? 0 : 1, entry.revision && !entry.corrects ? 0 : -1);
  if (receipt.extra) announce(t("Stored as an extra: others had filled this item meanwhile."));
}

/** Ask for one of several reasons, and more in words; null when one thinks better of it, or there is no item any more. */
async function askWhy(reasons, asked) {
  const fields = [{ name: "reason", label: t("Reason"), choices: reasons }, { name: "text", label: t("In your own words, if you like"), tall: true, required: false }];
  const said = await ask({ ...asked, fields });
  return now && said;
}

async function skip() {
  if (!now || now.done || adjudicating || now.revising) return;
  const said = await askWhy(SKIPS, { title: t("Skip this item?"), intro: t("It does not come back by itself; Undo opens it again."), action: t("Skip") });
  if (!said) return;
  const { task } = now.view;
  await act(() => api("POST", `${data.base}/assignments/${task.assignment_id}/skip`, { ...said, ...about(task) }), async () => {
    keepDraft(); // for whoever takes the skip back
    lastDone = { assignment: task.assignment_id, skipped: true };
    now.done = true;
    tally.count(0, -1);
    announce(t("Skipped."));
    await advance();
  });
}

async function flag() {
  if (!now || adjudicating) return;
  const said = await askWhy(FLAGS, { title: t("Flag this item"), intro: t("The people who run the project will see it. You can still answer."), action: t("Flag") });
  if (!said) return;
  await act(() => api("POST", `${data.base}/assignments/${now.view.task.assignment_id}/flag`, { code: said.reason, text: said.text }), () => note(t("Flagged.")));
}

/** Do something at once; what stands in the way is said beside the button. */
async function act(what, then) {
  try { await what(); await then(); } catch (error) { note(error.message); }
}

function note(text) {
  const hint = document.getElementById("hint");
  if (hint) hint.textContent = text;
  announce(text);
}

/** Open the last item again: an answer that has not left yet is taken back, else revised; a skip is taken back. */
async function undo() {
  if (!lastDone) return note(t("There is nothing to undo."));
  const last = lastDone;
  lastDone = null;
  await instead(async () => {
    if (outbox.sending) await outbox.sending;
    if (last.key && outbox.has(last.key)) { // not stored yet
      outbox.drop(last.key);
      outbox.report();
      show(last);
      fill(last.answer);
    } else if (adjudicating) await openConflict(last.view.task.item_id);
    else await open(last.assignment);
  }, () => { lastDone = last; });
}

/** Show another item; what is on the screen comes back after it, or at once when that fails. */
async function instead(showOther, failed = () => {}) {
  if (now && !now.done) putAside();
  try { await showOther(); }
  catch (error) {
    failed();
    if (!now && queue.waiting.length) show({ view: queue.waiting.shift() });
    note(error.message);
  }
}

function putAside() {
  if (!now.revising && !adjudicating) {
    keepDraft();
    queue.waiting.unshift(now.view);
  }
  stop();
  now = null;
}

/** Fill an answer in as if it had just been given. */
function fill(answer) {
  now.screen.restore(answer);
  drawReady();
}

function leaveRevision() {
  queue.leftAlone.add(now.view.task.assignment_id);
  announce(t("Left as it was."));
  advance();
}

function showSettled() { if (adjudicating) settledDialog(data.base, openConflict).catch((error) => note(error.message)); }

function toggleRaw() {
  if (!now) return;
  const answer = draftOf(now.screen);
  raw = !raw;
  build({ answer });
  announce(raw ? t("Texts as written.") : t("Texts as Markdown."));
}

function help() { helpDialog([[t("This screen"), now?.screen.help ?? []], [t("Everywhere"), keysEverywhere(now?.view.task.suggestion)]]); }

Object.assign(keys.common, {
  Enter: submit, s: () => (adjudicating ? advance() : now?.revising ? leaveRevision() : skip()), "!": flag, u: undo, l: showSettled, t: takeOver,
  g: () => { reading.open(now?.view.task.newest_guideline); }, v: toggleRaw, "?": help,
});

// ---- answers that were not accepted ----------------------------------------------------------------------------------

function onRefused(entry, error) {
  drawRefused();
  announce(t("An answer was not accepted: {why}", { why: error.message }));
}

function drawRefused() {
  keptBox("refused", stage, [
    ...outbox.refused().map((entry) => keptRow(t("Item {n}: {why}", { n: entry.item, why: entry.refused }), entry.body.answer, {
      again: () => reopen(entry),
      throwAway: () => dropRefused(entry.key),
    })),
    ...outbox.foreign().map(([key, entry]) => keptRow(t("Item {n}: this answer is for another store that was at this address. It is sent when that store is back.", { n: entry.item }), entry.body.answer, {
      throwAway: () => { outbox.drop("", key); drawRefused(); },
    })),
  ]);
}

function dropRefused(key) {
  outbox.drop(key);
  outbox.report();
  drawRefused();
}

/** Half-answers in this browser under the number of the item on the screen, but about another one. */
function drawStrangers() {
  keptBox("strangers", stage, drafts.strangers(now.view.task).map(([key, draft]) => keptRow(t("This browser kept an unfinished answer about another item, of before a restore or of another store at this address."), draft.answer, {
    throwAway: () => { drafts.throwAway(key); drawStrangers(); },
  })));
}

const canonical = (answer) => JSON.stringify(Object.entries(answer ?? {}).sort());

/** Show the item of a refused answer, with that answer filled in; the answer is kept until it is given again. */
function reopen(entry) {
  return instead(async () => {
    const view = await opened(entry.assignment);
    if ((entry.body.item_digest ?? view.task.item_digest) !== view.task.item_digest) throw new ApiError(409, t("Under this number stands another item now: copy what you need."));
    show({ view });
    fill(entry.body.answer);
    if (canonical(view.task.answer) === canonical(entry.body.answer)) dropRefused(entry.key); // the same is stored already
  });
}

// ---- time ------------------------------------------------------------------------------------------------------------

countWork((ms) => { if (now) now.active += ms; });

whileThere(Math.min(HEARTBEAT, Math.max(5000, data.settings.lease_seconds * 300)), async () => {
  if (!now || adjudicating || now.revising) return;
  const here = now;
  try { await api("POST", `${data.base}/assignments/${here.view.task.assignment_id}/heartbeat`); }
  catch (error) {
    if (error.status === 410 && now === here && !here.expired) { here.expired = true; stage.prepend(expiredNotice()); }
  }
});

addEventListener("pagehide", () => { drafts.push(true); queue.giveBack(); });
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") drafts.push(true); else outbox.flush(); });
addEventListener("pageshow", (event) => { if (event.persisted) start(); });
addEventListener("beforeunload", (event) => { if (outbox.memory.size) event.preventDefault(); });

outbox.flush();
start();
