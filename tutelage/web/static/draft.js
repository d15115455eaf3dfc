// What is typed so far: to localStorage at once, to the server every few seconds. A draft belongs to an item of a store:
// after a restore, or with another store at this address, the same number may be another item's.

import { api } from "./api.js";

const EVERY = 4000;

export class Drafts {
  constructor(base, user, project) {
    this.base = base;
    this.prefix = `tutelage:draft:${user}:${project}:`;
    this.timer = 0;
  }

  key(task) { return `${this.prefix}${task.assignment_id}:${task.store}:${task.item_digest}`; }

  /** The newer of what the server and this browser have; null for neither. */
  newest(task) {
    const local = read(this.key(task));
    const fromServer = task.draft;
    if (local && fromServer) return local.at >= (fromServer.at ?? 0) ? local : fromServer;
    return local ?? fromServer ?? null;
  }

  /** Drafts in this browser under the same number that are about another item: [[key, draft], ...]. */
  strangers(task) {
    const number = this.prefix + task.assignment_id;
    return stored((key) => (key === number || key.startsWith(`${number}:`)) && key !== this.key(task)).map((key) => [key, read(key)]).filter(([, draft]) => draft?.answer);
  }
  throwAway(key) { try { localStorage.removeItem(key); } catch { /* nothing was kept */ } }

  /** Keep a draft {answer, ...}; the server gets it a little later. */
  save(task, draft) {
    const whole = { ...draft, at: Date.now() };
    try { localStorage.setItem(this.key(task), JSON.stringify(whole)); } catch { /* the server has it soon */ }
    this.pending = { task, draft: whole };
    if (!this.timer) this.timer = setTimeout(() => this.push(), EVERY);
  }

  /** Send what waits now; `leaving` lets the request outlive the page. */
  async push(leaving = false) {
    clearTimeout(this.timer);
    this.timer = 0;
    const pending = this.pending;
    this.pending = null;
    if (!pending) return;
    const { task, draft } = pending;
    try { await api("PUT", `${this.base}/assignments/${task.assignment_id}/draft`, { draft, store: task.store, item_digest: task.item_digest }, { keepalive: leaving }); }
    catch { /* this browser has it */ }
  }

  /** The answer is on its way: its draft is not needed any more. */
  forget(task) {
    if (this.pending?.task.assignment_id === task.assignment_id) this.pending = null;
    this.throwAway(this.key(task));
  }
}

/** Keys of localStorage that `wanted` says yes to; none where there is no storage. */
export function stored(wanted) {
  try { return Array.from({ length: localStorage.length }, (_, i) => localStorage.key(i)).filter(wanted); } catch { return []; }
}

/** A stored value; null where there is none, or it is broken. */
export function read(key) {
  try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
}
