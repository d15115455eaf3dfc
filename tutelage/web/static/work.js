// The page where people work: one item on the screen, the next one ready, answers safe before the screen changes.

import { ApiError, api } from "./api.js";
import { announce, h, t } from "./dom.js";
import { Drafts } from "./draft.js";
import { Keys, ask, helpDialog } from "./keys.js";
import { opinionsPart, settledDialog } from "./opinions.js";
import { Outbox } from "./outbox.js";
import { SCREENS } from "./screens/index.js";

const data = JSON.parse(document.getElementById("data").textContent);
const adjudicating = data.mode === "adjudicate";
const SKIPS = [["too-hard", "Too hard to tell"], ["not-my-field", "Not my field"], ["unclear", "The prompt is unclear"], ["broken", "Something is broken"], ["other", "Another reason"]];
const FLAGS = [["bad-prompt", "Bad prompt"], ["unsafe", "Unsafe content"], ["personal-data", "Personal data"], ["unsure", "I am unsure about my answer"], ["broken", "Something is broken"]];
const IDLE = 60_000; // without a sign of life for so long, time is no longer counted as work
const HEARTBEAT = 60_000;

const stage = document.getElementById("stage");
const bar = document.getElementById("bar");
const status = document.getElementById("status");
const keys = new Keys();
const drafts = new Drafts(data.base, data.user, data.project);
const outbox = new Outbox(data.user, `${data.project}:${data.mode}`, { state: drawState, sent: onSent, refused: onRefused });

let now = null; // what is on the screen: {view, screen, revising, shown, active, ...}
let ahead = null; // promise of the next view
let aheadTask = null; // ... its task once it is here
let waitingViews = []; // views to show before asking for another: put aside by undo, or written by a model
let lastDone = null; // for undo
let raw = false;
let alive = Date.now();
let lastConflict = 0;

// ---- from item to item -----------------------------------------------------------------------------------------------

async function start() {
  stage.replaceChildren(h("p", { class: "soft" }, "Loading…"));
  const wanted = Number(new URLSearchParams(location.search).get("open"));
  if (outbox.refused().length) drawRefused();
  if (wanted) {
    history.replaceState(null, "", location.pathname);
    try { return adjudicating ? await openConflict(wanted) : show(await api("GET", `${data.base}/assignments/${wanted}`)); }
    catch (error) { announce(error.message); }
  }
  await advance();
}

/** Ids of assignments that the server may think we still have in hand, but that must not come again. */
function inHand() {
  const ids = [now?.view.task.assignment_id, ...waitingViews.map((view) => view.task.assignment_id), ...outbox.entries().map((entry) => entry.assignment)];
  return [...new Set(ids.filter(Boolean))].slice(-10);
}

async function fetchNext() {
  if (adjudicating) {
    const found = await api("POST", `${data.base}/conflicts/next`, { after_item: lastConflict });
    if (!found.conflict) return { left: found.left };
    lastConflict = found.conflict.view.task.item_id;
    return { view: found.conflict.view, conflict: found.conflict, left: found.left };
  }
  return { view: (await api("POST", `${data.base}/next`, { besides: inHand() })).view };
}

/** One conflict, or one that was settled before. */
async function openConflict(item) {
  const found = await api("POST", `${data.base}/conflicts/${item}/open`);
  lastConflict = 0; // what was on the screen comes again
  show(found.view, found);
}

/** A settled one goes back among the conflicts. */
async function reopenConflict() {
  await act(() => api("POST", `${data.base}/conflicts/${now.view.task.item_id}/reopen`), async () => { announce(t("Reopened.")); await advance(); });
}

async function advance() {
  stop();
  if (waitingViews.length) return show(waitingViews.shift());
  try {
    let found = ahead ? await ahead : null;
    ahead = aheadTask = null;
    if (!found || !found.view) {
      await outbox.flush();
      found = await fetchNext();
    }
    if (found.view) show(found.view, found.conflict, found.left);
    else finished();
  } catch (error) { unreachable(error); }
}

function prefetch() {
  if (adjudicating || ahead || waitingViews.length) return; // conflicts are few and change with every answer
  const fetched = fetchNext().catch(() => null);
  ahead = fetched;
  fetched.then((found) => { if (ahead === fetched) aheadTask = found?.view?.task ?? null; });
}

function show(view, conflict = null, left = null) {
  stop();
  raw = raw && now?.view === view;
  const task = view.task;
  now = { view, conflict, left, revising: task.annotation_id ?? null, shown: Date.now(), active: 0, expired: false };
  const earlier = conflict?.settled?.answer ?? task.answer;
  build(earlier ? { answer: earlier } : drafts.newest(task.assignment_id, task.draft));
  prefetch();
  scrollTo({ top: 0 });
  document.getElementById("main").focus({ preventScroll: true });
  announce(`${adjudicating ? "Conflict" : now.revising ? "Earlier answer" : "Item"} ${task.item_id}`);
}

/** Draw the screen of the item; `kept` is a draft {answer, active} or an earlier answer. */
function build(kept) {
  now.screen?.stop?.();
  const { view } = now;
  const ctx = {
    base: data.base, settings: data.settings, generation: data.generation, version: data.version, raw, changed,
    follow: (child) => { waitingViews.push(child); giveBackAhead(); },
  };
  now.screen = SCREENS[view.task.type](view, ctx);
  if (kept?.answer) now.screen.restore(kept.answer);
  if (kept?.active) now.active = Math.max(now.active, kept.active);
  stage.className = "more";
  stage.replaceChildren(
    now.revising && !adjudicating ? h("div", { class: "notice" }, h("p", {}, "You have answered this before. Submitting again revises that answer; what you said first is kept in the records.")) : "",
    now.expired ? expiredNotice() : "",
    ...now.screen.stage.filter(Boolean),
    now.conflict ? (now.opinions = opinionsPart(now.conflict, now.opinions?.open, reopenConflict)) : "",
    now.conflict ? h("button", { type: "button", class: "quiet", onclick: showSettled }, t("Settled ones"), h("kbd", { "aria-hidden": "true" }, "l")) : "",
  );
  drawBar();
  keys.screen = now.screen.keys;
  drawReady();
}

/** What was fetched ahead is not wanted now (a model's text comes first): it waits behind. */
async function giveBackAhead() {
  const found = await ahead;
  ahead = aheadTask = null;
  if (found?.view) waitingViews.push(found.view);
}

function stop() { now?.screen?.stop?.(); }

function finished() {
  now = null;
  bar.hidden = true;
  keys.screen = {};
  stage.replaceChildren(h("div", { class: "empty card" },
    h("h2", {}, adjudicating ? "No conflicts left" : "Nothing left for you here"),
    h("p", { class: "soft" }, adjudicating ? "Everything that annotators disagreed on is settled."
      : data.offer ? "Only programs have answered so far. Every item can have one annotator more: you."
      : "Everything is answered, or others are working on the rest. Thank you."),
    h("div", { class: "row" }, data.offer ? h("button", { type: "button", class: "primary", onclick: oneMore, title: "One annotator more for every item" }, "Label these yourself") : null,
      h("a", { class: data.offer ? "button" : "button primary", href: data.home }, "Back to the queue"),
      adjudicating ? h("button", { type: "button", onclick: showSettled }, t("Settled ones")) : null,
      h("button", { type: "button", onclick: start }, "Look again"), lastDone ? h("button", { type: "button", onclick: undo }, "Undo the last answer") : null)));
  announce("Nothing left.");
}

/** What only programs have answered gets room for a person. */
async function oneMore() {
  try { await api("POST", `${data.base}/items/one-more`); } catch (error) { return announce(error.message); }
  data.offer = false;
  start();
}

function unreachable(error) {
  now = null;
  bar.hidden = true;
  const out = error instanceof ApiError && error.status === 401;
  const waiting = outbox.waiting().length;
  stage.replaceChildren(h("div", { class: "empty card" },
    h("h2", {}, out ? "You are logged out" : error.temporary ? "No connection" : "This did not work"),
    h("p", { class: "soft" }, error.message, waiting ? ` ${waiting} ${waiting === 1 ? "answer waits" : "answers wait"} in this browser and will be sent.` : ""),
    h("div", { class: "row" }, out ? h("a", { class: "button primary", href: `/login?next=${encodeURIComponent(location.pathname)}` }, "Log in")
      : h("button", { type: "button", class: "primary", onclick: start }, "Try again"))));
  announce(error.message);
  if (error.temporary) setTimeout(() => { if (!now && stage.isConnected) retryQuietly(); }, 3000);
}

async function retryQuietly() {
  try { await api("GET", "/healthz"); } catch { setTimeout(() => { if (!now) retryQuietly(); }, 4000); return; }
  if (!now) start();
}

// ---- the bar ---------------------------------------------------------------------------------------------------------

function drawBar() {
  bar.hidden = false;
  const hint = h("span", { class: "hint", id: "hint", role: "status" });
  const button = h("button", { class: "primary right", type: "button", id: "submit", onclick: submit, "aria-describedby": "hint" },
    adjudicating ? (now.conflict.settled ? t("Settle again") : t("Settle")) : now.revising ? "Revise" : "Submit", h("kbd", { "aria-hidden": "true" }, "Enter"));
  const quiet = (words, key, act, title) => h("button", { class: key === "?" ? "quiet keys-help" : "quiet", type: "button", onclick: act, title }, words, h("kbd", { "aria-hidden": "true" }, key));
  bar.replaceChildren(h("div", { class: "inner" }, now.screen.bar,
    h("div", { class: "actions" },
      adjudicating ? quiet("Next conflict", "s", advance) : now.revising ? quiet("Leave as it was", "s", leaveRevision) : quiet("Skip", "s", skip),
      adjudicating ? null : quiet("Flag", "!", flag),
      quiet("Undo", "u", undo, "Open the last answer again"),
      quiet("Guidelines", "g", guidelines), quiet("As written", "v", toggleRaw, "Show texts as they were written"), quiet("Keys", "?", help),
      now.left ? h("span", { class: "soft small" }, `${now.left} ${now.left === 1 ? "conflict" : "conflicts"} left`) : null,
      h("span", { class: "right" }), hint, button)));
  bar.querySelector("#submit").classList.remove("right");
}

/** Seconds until a submit is taken: nobody reads that fast. */
const dwellLeft = () => (now.revising ? 0 : data.settings.dwell_seconds - (Date.now() - now.shown) / 1000);

function problem() {
  const { problem: unfinished } = now.screen.read();
  if (unfinished) return unfinished;
  const left = dwellLeft();
  return left > 0 ? `Take your time: ${Math.ceil(left)} s.` : null;
}

function drawReady() {
  if (!now) return;
  const why = problem();
  const hint = document.getElementById("hint");
  if (hint.textContent !== (why ?? "")) hint.textContent = why ?? "";
  document.getElementById("submit").setAttribute("aria-disabled", String(Boolean(why)));
  clearTimeout(now.timer);
  const left = dwellLeft();
  if (left > 0) now.timer = setTimeout(drawReady, Math.min(1000, left * 1000 + 20));
}

function changed() {
  if (!now) return;
  drawReady();
  const { answer, problem: unfinished } = now.screen.read();
  if (now.opinions && !unfinished) now.opinions.open = true; // one's own view stands: now the others'
  if (adjudicating || now.revising) return;
  drafts.save(now.view.task.assignment_id, { answer: now.screen.draft?.(answer) ?? answer, active: now.active });
}

function drawState(state, text) {
  if (status.dataset.state === state && status.textContent === text) return;
  status.dataset.state = state;
  status.textContent = text;
}

// ---- what one can do -------------------------------------------------------------------------------------------------

function submit() {
  if (!now || document.querySelector("dialog[open]")) return;
  const why = problem();
  if (why) { drawReady(); announce(why); return; }
  const { task } = now.view;
  const entry = {
    url: adjudicating ? `${data.base}/assignments/${task.assignment_id}/adjudicate`
      : now.revising ? `${data.base}/annotations/${now.revising}/revise` : `${data.base}/assignments/${task.assignment_id}/submit`,
    body: { answer: now.screen.read().answer, active_ms: Math.min(86_400_000, now.active), ui_version: data.version },
    assignment: task.assignment_id, item: task.item_id, revision: Boolean(now.revising),
  };
  drafts.forget(task.assignment_id);
  const view = now.view;
  lastDone = { assignment: task.assignment_id, key: outbox.add(entry).key, view, conflict: now.conflict, answer: entry.body.answer };
  now.done = true;
  announce("Submitted.");
  advance();
}

function onSent(entry, receipt) {
  data.offer = false; // no longer answered by programs only
  if (receipt.extra) announce("Stored as an extra: others had filled this item meanwhile.");
}

async function skip() {
  if (!now || adjudicating || now.revising) return;
  const said = await ask({ title: "Skip this item?", intro: "It will not come back to you.", options: SKIPS, action: "Skip" });
  if (!said || !now) return;
  await act(() => api("POST", `${data.base}/assignments/${now.view.task.assignment_id}/skip`, { reason: said.choice, text: said.text }), async () => {
    drafts.forget(now.view.task.assignment_id);
    announce("Skipped.");
    await advance();
  });
}

async function flag() {
  if (!now || adjudicating) return;
  const said = await ask({ title: "Flag this item", intro: "The people who run the project will see it. You can still answer.", options: FLAGS, action: "Flag" });
  if (!said || !now) return;
  await act(() => api("POST", `${data.base}/assignments/${now.view.task.assignment_id}/flag`, { code: said.choice, text: said.text }), () => note("Flagged."));
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

/** Open the last answer again: taken back when it has not left yet, else as a revision. */
async function undo() {
  if (!lastDone) return note("There is nothing to undo.");
  const last = lastDone;
  lastDone = null;
  if (now && !now.done) putAside();
  try {
    if (outbox.sending) await outbox.sending;
    if (outbox.has(last.key)) { // not stored yet
      outbox.drop(last.key);
      outbox.report();
      show(last.view, last.conflict);
      now.screen.restore(last.answer);
      drawReady();
      return;
    }
    if (adjudicating) await openConflict(last.view.task.item_id);
    else show(await api("GET", `${data.base}/assignments/${last.assignment}`));
  } catch (error) {
    lastDone = last;
    if (!now && waitingViews.length) show(waitingViews.shift());
    note(error.message);
  }
}

/** What is on the screen comes back after the undone item. */
function putAside() {
  if (!now.revising && !adjudicating) {
    const { answer } = now.screen.read();
    drafts.save(now.view.task.assignment_id, { answer: now.screen.draft?.(answer) ?? answer, active: now.active });
    waitingViews.unshift(now.view);
  }
  stop();
  now = null;
}

function leaveRevision() { announce("Left as it was."); advance(); }

function showSettled() { if (adjudicating) settledDialog(data.base, openConflict).catch((error) => note(error.message)); }

function guidelines() { document.getElementById("guidelines").showModal(); }

function toggleRaw() {
  if (!now) return;
  const { answer } = now.screen.read();
  const draft = now.screen.draft?.(answer) ?? answer;
  raw = !raw;
  build({ answer: draft });
  announce(raw ? "Texts as written." : "Texts as Markdown.");
}

function help() {
  helpDialog([
    ["This screen", now?.screen.help ?? []],
    ["Everywhere", [["Enter", adjudicating ? "settle" : "submit"], ["s", adjudicating ? "next conflict" : "skip, with a reason"],
      ["u", "undo: open the last answer again"],
      adjudicating ? ["l", t("what was settled")] : ["!", "flag for the people who run the project"],
      ["g", "guidelines"], ["v", "texts as they were written"], ["?", "this help"]]],
  ]);
}

Object.assign(keys.common, {
  Enter: submit, s: () => (adjudicating ? advance() : now?.revising ? leaveRevision() : skip()), "!": flag, u: undo, l: showSettled, g: guidelines, v: toggleRaw, "?": help,
});

// ---- answers that were not accepted ----------------------------------------------------------------------------------

function onRefused(entry, error) {
  drawRefused();
  announce(`An answer was not accepted: ${error.message}`);
}

function drawRefused() {
  document.getElementById("refused")?.remove();
  const refused = outbox.refused();
  if (!refused.length) return;
  const rows = refused.map((entry) => h("p", { class: "row" }, h("span", {}, `Item ${entry.item}: ${entry.refused}`),
    h("button", { type: "button", onclick: () => reopen(entry) }, "Open again"),
    h("button", { type: "button", class: "quiet", onclick: () => { outbox.drop(entry.key); outbox.report(); drawRefused(); } }, "Throw away")));
  stage.before(h("div", { class: "notice bad", id: "refused", role: "alert" }, rows));
}

/** Show the item of a refused answer, with that answer filled in. */
async function reopen(entry) {
  if (now && !now.done) putAside();
  try {
    show(await api("GET", `${data.base}/assignments/${entry.assignment}`));
    now.screen.restore(entry.body.answer);
    drawReady();
    outbox.drop(entry.key);
    outbox.report();
    drawRefused();
  } catch (error) {
    if (!now && waitingViews.length) show(waitingViews.shift());
    note(error.message);
  }
}

// ---- time ------------------------------------------------------------------------------------------------------------

for (const sign of ["keydown", "pointerdown", "pointermove", "scroll", "wheel"]) addEventListener(sign, () => { alive = Date.now(); }, { passive: true, capture: true });

let ticked = Date.now();
setInterval(() => {
  const at = Date.now();
  if (now && document.visibilityState === "visible" && at - alive < IDLE) now.active += Math.min(2000, at - ticked);
  ticked = at;
}, 1000);

setInterval(async () => {
  if (!now || adjudicating || now.revising || document.visibilityState !== "visible" || Date.now() - alive > 5 * IDLE) return;
  const here = now;
  try { await api("POST", `${data.base}/assignments/${here.view.task.assignment_id}/heartbeat`); }
  catch (error) {
    if (error.status === 410 && now === here && !here.expired) { here.expired = true; stage.prepend(expiredNotice()); }
  }
}, Math.min(HEARTBEAT, Math.max(5000, data.settings.lease_seconds * 300)));

function expiredNotice() {
  return h("div", { class: "notice warn", role: "status" }, h("p", {}, "Others have filled this item while you were away. Your answer will be kept as an extra."));
}

addEventListener("pagehide", () => {
  drafts.push(true);
  if (!aheadTask) return; // nobody has seen it: others need not wait until its lease has run out
  api("POST", `${data.base}/assignments/${aheadTask.assignment_id}/release`, undefined, { keepalive: true }).catch(() => {});
  ahead = aheadTask = null;
});
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") drafts.push(true); else outbox.flush(); });
addEventListener("pageshow", (event) => { if (event.persisted) start(); });
addEventListener("beforeunload", (event) => { if (outbox.memory.size) event.preventDefault(); });

outbox.flush();
start();
