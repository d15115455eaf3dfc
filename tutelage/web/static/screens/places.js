// Ranks by dragging: letters into numbered places. An extra beside the radio buttons, which say the same to everybody else.

import { h, letter } from "../dom.js";

const SLACK = 30; // pixels beside a place that still count as in it
const STILL = 4; // pixels that a click may move

/** `give(position, rank)` sets a rank (undefined: none); `pick(position)` is a click. */
export function rankPlaces(count, { give, pick }) {
  const tray = h("div", { class: "place tray" }, h("span", { class: "n" }, "–"));
  const numbered = Array.from({ length: count }, (_, i) => h("div", { class: "place" }, h("span", { class: "n" }, String(i + 1))));
  const all = [tray, ...numbered];
  const chips = Array.from({ length: count }, (_, position) => h("span", { class: "chip-letter" }, letter(position)));
  const element = h("div", { class: "places", "aria-hidden": "true" }, all);

  function placeAt(x, y) {
    const near = element.getBoundingClientRect();
    if (y < near.top - SLACK || y > near.bottom + SLACK) return -1;
    return all.findIndex((place) => { const at = place.getBoundingClientRect(); return x >= at.left && x <= at.right; });
  }
  /** Let `handle` be dragged for the response at `position`. */
  function grabbable(handle, position) {
    let start = null;
    handle.classList.add("grab");
    function end(event) {
      if (!start) return;
      const { moved } = start;
      start = null;
      handle.style.transform = "";
      handle.classList.remove("dragged");
      for (const place of all) place.classList.remove("over");
      removeEventListener("keydown", escape, true);
      if (handle.hasPointerCapture(event.pointerId)) handle.releasePointerCapture(event.pointerId);
      if (event.type !== "pointerup") return;
      if (!moved) return pick(position);
      const found = placeAt(event.clientX, event.clientY);
      if (found >= 0) give(position, found || undefined);
    }
    function escape(event) {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      end({ type: "pointercancel", pointerId: start.id });
    }
    handle.addEventListener("pointerdown", (event) => {
      if (event.button || start) return;
      event.preventDefault();
      start = { x: event.clientX, y: event.clientY, id: event.pointerId, moved: false };
      handle.setPointerCapture(event.pointerId);
      addEventListener("keydown", escape, true);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
      start.moved ||= Math.hypot(dx, dy) > STILL;
      if (!start.moved) return;
      handle.classList.add("dragged");
      handle.style.transform = `translate(${dx}px, ${dy}px)`;
      const found = placeAt(event.clientX, event.clientY);
      all.forEach((place, i) => place.classList.toggle("over", i === found));
    });
    handle.addEventListener("pointerup", end);
    handle.addEventListener("pointercancel", end);
  }
  chips.forEach(grabbable);

  return {
    element,
    grabbable,
    /** Put the letters where the ranks say. */
    draw(ranks) { chips.forEach((chip, position) => all[ranks[position] ?? 0].append(chip)); },
  };
}
