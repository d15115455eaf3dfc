// What is typed so far: to localStorage at once, to the server every few seconds.

import { api } from "./api.js";

const EVERY = 4000;

export class Drafts {
  constructor(base, user, project) {
    this.base = base;
    this.prefix = `tutelage:draft:${user}:${project}:`;
    this.timer = 0;
  }

  key(assignment) { return this.prefix + assignment; }

  /** The newer of what the server and this browser have; null for neither. */
  newest(assignment, fromServer) {
    let local = null;
    try { local = JSON.parse(localStorage.getItem(this.key(assignment))); } catch { /* no storage, or broken */ }
    if (local && fromServer) return local.at >= (fromServer.at ?? 0) ? local : fromServer;
    return local ?? fromServer ?? null;
  }

  /** Keep a draft {answer, ...}; the server gets it a little later. */
  save(assignment, draft) {
    const whole = { ...draft, at: Date.now() };
    try { localStorage.setItem(this.key(assignment), JSON.stringify(whole)); } catch { /* the server has it soon */ }
    this.pending = { assignment, draft: whole };
    if (!this.timer) this.timer = setTimeout(() => this.push(), EVERY);
  }

  /** Send what waits now; `leaving` lets the request outlive the page. */
  async push(leaving = false) {
    clearTimeout(this.timer);
    this.timer = 0;
    const pending = this.pending;
    this.pending = null;
    if (!pending) return;
    try { await api("PUT", `${this.base}/assignments/${pending.assignment}/draft`, { draft: pending.draft }, { keepalive: leaving }); }
    catch { /* this browser has it */ }
  }

  /** The answer is on its way: its draft is not needed any more. */
  forget(assignment) {
    if (this.pending?.assignment === assignment) this.pending = null;
    try { localStorage.removeItem(this.key(assignment)); } catch { /* nothing was kept */ }
  }
}
