// Time: what counts as work, and for how long somebody is taken to be there.

const IDLE = 60_000; // without a sign of life for so long, time is no longer counted as work

let alive = Date.now();
for (const sign of ["keydown", "pointerdown", "pointermove", "scroll", "wheel"]) addEventListener(sign, () => { alive = Date.now(); }, { passive: true, capture: true });

const isThere = (ms) => document.visibilityState === "visible" && Date.now() - alive < ms;

/** Every second of work, tell `count` how many milliseconds it was. */
export function countWork(count) {
  let ticked = Date.now();
  setInterval(() => {
    const at = Date.now();
    if (isThere(IDLE)) count(Math.min(2000, at - ticked));
    ticked = at;
  }, 1000);
}

/** Call `beat` every so many milliseconds while somebody is there, or was a few minutes ago. */
export function whileThere(every, beat) { setInterval(() => { if (isThere(5 * IDLE)) beat(); }, every); }
