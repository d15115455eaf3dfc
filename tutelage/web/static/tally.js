// How far one is: asked for at the start and now and then, counted along in between.

import { api } from "./api.js";
import { t } from "./dom.js";

const AGAIN = 20; // answers after which the server is asked again: others answer, too

export class Tally {
  constructor(place, base) {
    Object.assign(this, { place, base, counted: 0 });
    if (place) this.load();
  }
  async load() {
    this.counted = 0;
    try { this.at = await api("GET", `${this.base}/progress`); } catch { return; }
    this.draw();
  }
  /** `done` answers more (or fewer), `left` items more (or fewer); `made`: items that are new. */
  count(done, left, made = 0) {
    if (!this.at) return;
    this.at.answered += done;
    this.at.project_items += made;
    this.at.left = Math.max(0, this.at.left + left);
    this.draw();
    if (++this.counted >= AGAIN) this.load();
  }
  draw() { this.place.textContent = t("{done} done, {left} left, {all} in all", { done: this.at.answered, left: this.at.left, all: this.at.project_items }); }
}
