// Answers on their way: kept in localStorage until the server says that they are on its disk. Each has its own key, which
// the server knows again, so sending one twice (two tabs, a lost reply) stores it once.

import { api } from "./api.js";
import { randomKey } from "./dom.js";

const RETRY = [500, 1000, 2000, 4000, 8000, 15_000];

export class Outbox {
  /** `on.state(state, text)` draws the state; `on.sent(entry, receipt)`, `on.refused(entry, error)` tell what became of each. */
  constructor(user, project, on) {
    this.prefix = `tutelage:out:${user}:${project}:`;
    this.on = on;
    this.memory = new Map(); // where storage is full or switched off
    this.sending = null;
    this.tries = 0;
    this.timer = 0;
    addEventListener("online", () => this.flush());
    addEventListener("offline", () => this.report());
    addEventListener("storage", (event) => { if (event.key?.startsWith(this.prefix)) this.report(); });
  }

  /** All waiting entries, oldest first; refused ones stay until someone has looked at them. */
  entries() {
    const found = new Map(this.memory);
    try {
      for (let i = 0; i < localStorage.length; i++) {
        const key = localStorage.key(i);
        if (key.startsWith(this.prefix)) found.set(key, JSON.parse(localStorage.getItem(key)));
      }
    } catch { /* no storage */ }
    return [...found.values()].sort((a, b) => a.at - b.at);
  }
  waiting() { return this.entries().filter((entry) => !entry.refused); }
  refused() { return this.entries().filter((entry) => entry.refused); }

  keep(entry) {
    const key = this.prefix + entry.key;
    try { localStorage.setItem(key, JSON.stringify(entry)); this.memory.delete(key); }
    catch { this.memory.set(key, entry); }
  }
  drop(key) {
    this.memory.delete(this.prefix + key);
    try { localStorage.removeItem(this.prefix + key); } catch { /* no storage */ }
  }
  has(key) { return this.entries().some((entry) => entry.key === key); }

  /** Take an answer in; it is safe from here on. `entry`: {url, body, assignment, ...}. */
  add(entry) {
    const key = randomKey();
    const whole = { ...entry, key, at: Date.now() };
    this.keep(whole);
    this.flush();
    return whole;
  }

  /** Send everything that waits, one after the other. Resolves when nothing waits or nothing can be sent now. */
  flush() {
    if (!this.sending) {
      clearTimeout(this.timer);
      this.sending = this.sendAll().finally(() => { this.sending = null; this.report(); });
    }
    return this.sending;
  }

  async sendAll() {
    for (let next = this.waiting()[0]; next; next = this.waiting()[0]) {
      this.on.state("saving", "Saving…");
      try {
        const receipt = await api("POST", next.url, next.body, { key: next.key });
        this.tries = 0;
        this.drop(next.key);
        this.on.sent(next, receipt);
      } catch (error) {
        if (error.temporary || error.status === 401) {
          this.later(error);
          return;
        }
        this.keep({ ...next, refused: error.message });
        this.on.refused(next, error);
      }
    }
  }

  later(error) {
    this.problem = error;
    this.timer = setTimeout(() => this.flush(), RETRY[Math.min(this.tries++, RETRY.length - 1)]);
  }

  report() {
    const waiting = this.waiting().length;
    const refused = this.refused().length;
    if (refused) this.on.state("failed", `${refused} not accepted`);
    else if (!waiting) this.on.state(navigator.onLine ? "saved" : "offline", navigator.onLine ? "Saved" : "Offline");
    else if (this.problem?.status === 401) this.on.state("offline", `Logged out, ${waiting} kept here`);
    else this.on.state("offline", `Offline, ${waiting} kept here`);
  }
}
