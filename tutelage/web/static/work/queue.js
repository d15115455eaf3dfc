// Which item comes next: one that was put aside, the one fetched ahead, or what the server hands out.

import { api } from "../api.js";
import { data } from "../dom.js";

const adjudicating = data.mode === "adjudicate";

export class Queue {
  /** What is in the `outbox`, and `shown()`, the view on the screen, do not come again. */
  constructor(outbox, shown) {
    Object.assign(this, { outbox, shown });
    this.waiting = []; // views to show before asking for another: put aside by undo
    this.ahead = null; // promise of the next view
    this.aheadTask = null; // ... its task once it is here
    this.leftAlone = new Set(); // assignments sent back for correction that stay as they are for now
    this.lastConflict = 0;
  }

  /** What comes next: {view, conflict?, left?}; no view: nothing is left. Throws ApiError. */
  async next() {
    if (this.waiting.length) return { view: this.waiting.shift() };
    const found = await this.takeAhead();
    if (found?.view) return found;
    await this.outbox.flush();
    return this.fetch();
  }

  /** Fetch the one after this while it is worked on. */
  prefetch() {
    if (adjudicating || this.ahead || this.waiting.length) return; // conflicts are few and change with every answer
    const fetched = this.fetch().catch(() => null);
    this.ahead = fetched;
    fetched.then((found) => { if (this.ahead === fetched) this.aheadTask = found?.view?.task ?? null; });
  }

  /** The page is left: nobody has seen what was fetched ahead, and others need not wait until its lease has run out. */
  giveBack() {
    if (!this.aheadTask) return;
    api("POST", `${data.base}/assignments/${this.aheadTask.assignment_id}/release`, undefined, { keepalive: true }).catch(() => {});
    this.ahead = this.aheadTask = null;
  }

  async takeAhead() {
    const found = await this.ahead;
    this.ahead = this.aheadTask = null;
    return found;
  }

  async fetch() {
    if (!adjudicating) return { view: (await api("POST", `${data.base}/next`, { besides: this.inHand() })).view };
    const { conflict, left } = await api("POST", `${data.base}/conflicts/next`, { after_item: this.lastConflict });
    if (!conflict) return {};
    this.lastConflict = conflict.view.task.item_id;
    return { view: conflict.view, conflict, left };
  }

  /** Ids of assignments that the server may think we still have in hand. */
  inHand() {
    const views = [this.shown(), ...this.waiting].map((view) => view?.task.assignment_id);
    const ids = [...views, ...this.outbox.entries().map((entry) => entry.assignment), ...this.leftAlone];
    return [...new Set(ids.filter(Boolean))].slice(-10);
  }
}
