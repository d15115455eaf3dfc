// Answers on their way: kept in localStorage until the server says that they are on its disk. Each has its own key, which
// the server knows again, so sending one twice (two tabs, a lost reply) stores it once. Only the store that an answer is
// for gets it: what was left here by another one at this address waits for that one.

import { api } from "./api.js";
import { randomKey, t } from "./dom.js";
import { read, stored } from "./draft.js";

const RETRY = [500, 1000, 2000, 4000, 8000, 15_000];

export class Outbox {
  /** `on.state(state, text)` draws the state; `on.sent(entry, receipt)`, `on.refused(entry, error)` tell what became of each. */
  constructor(store, user, project, on) {
    this.whole = `tutelage:out:${user}:${project}:`;
    this.prefix = `${this.whole}${store}:`;
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
    for (const key of stored((key) => key.startsWith(this.prefix))) found.set(key, read(key));
    return [...found.values()].filter(Boolean).sort((a, b) => a.at - b.at);
  }
  /** Answers for another store that was at this address: [[key, entry], ...]. */
  foreign() {
    return stored((key) => key.startsWith(this.whole) && !key.startsWith(this.prefix)).map((key) => [key, read(key)]).filter(([, entry]) => entry?.body);
  }
  waiting() { return this.entries().filter((entry) => !entry.refused); }
  refused() { return this.entries().filter((entry) => entry.refused); }

  keep(entry) {
    const key = this.prefix + entry.key;
    try { localStorage.setItem(key, JSON.stringify(entry)); this.memory.delete(key); }
    catch { this.memory.set(key, entry); }
  }
  drop(key, whole = this.prefix + key) {
    this.memory.delete(whole);
    try { localStorage.removeItem(whole); } catch { /* no storage */ }
  }
  has(key) { return this.entries().some((entry) => entry.key === key); }

  /** Take an answer in; it is safe from here on. `entry`: {url, body, assignment, ...}. The same again is the same one. */
  add(entry) {
    const same = this.waiting().find((other) => other.url === entry.url && JSON.stringify(other.body.answer) === JSON.stringify(entry.body.answer));
    if (same) return same;
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
      this.on.state("saving", t("Saving…"));
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
    if (refused) this.on.state("failed", t("{n} not accepted", { n: refused }));
    else if (!waiting) this.on.state(navigator.onLine ? "saved" : "offline", navigator.onLine ? t("Saved") : t("Offline"));
    else if (this.problem?.status === 401) this.on.state("offline", t("Logged out, {n} kept here", { n: waiting }));
    else this.on.state("offline", t("Offline, {n} kept here", { n: waiting }));
  }
}
