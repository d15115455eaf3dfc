// The guidelines while one works: answers are recorded under the newest version that was on the screen.

import { api } from "./api.js";
import { announce, h, kbd, setHtml, t } from "./dom.js";

const dialog = document.getElementById("guidelines");

export class Reading {
  /** `seen`, `shown`: the versions that this person has read, and that the page came with. */
  constructor(base, seen, shown) {
    Object.assign(this, { base, seen, shown });
  }

  /** Open the newest guidelines, and say that they were read. `newest`: what the server said last. */
  async open(newest = this.shown) {
    if (newest > this.shown) {
      try {
        const [latest] = await api("GET", `${this.base}/guidelines`);
        setHtml(dialog.querySelector(".prose"), latest.html);
        dialog.querySelector(".chip")?.replaceChildren(t("version {n}", { n: latest.n }));
        this.shown = latest.n;
      } catch (error) { return announce(error.message); }
    }
    dialog.showModal();
    if (this.shown <= this.seen) return;
    try { await api("POST", `${this.base}/guidelines/${this.shown}/seen`); this.seen = this.shown; this.drop?.(); } catch { /* asked again next time */ }
  }

  /** A notice where there are guidelines that this person has not read; null where there are none. */
  notice(newest) {
    if (newest <= this.seen) return null;
    const words = this.seen ? t("The guidelines have changed: read version {n} before you go on.", { n: newest }) : t("Read the guidelines before you begin.");
    const notice = h("div", { class: "notice warn row", role: "status" }, h("p", {}, words), h("button", { type: "button", onclick: () => this.open(newest) }, t("Read"), kbd("g")));
    this.drop = () => { if (newest <= this.seen) notice.remove(); };
    return notice;
  }
}
