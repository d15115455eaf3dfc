// Word differences between two texts, as text nodes, <ins> and <del>.

import { h, seen } from "./dom.js";

const MOST = 3000; // tokens per side: the table has their product in cells

const split = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];

/** [["same" | "del" | "ins", text], ...] from `before` to `after`. */
export function diffWords(before, after) {
  let a = split(before), b = split(after);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const parts = [["same", a.slice(0, head).join("")]];
  const end = a.slice(a.length - tail).join("");
  a = a.slice(head, a.length - tail);
  b = b.slice(head, b.length - tail);
  if (a.length > MOST || b.length > MOST) parts.push(["del", a.join("")], ["ins", b.join("")]);
  else parts.push(...middle(a, b));
  parts.push(["same", end]);
  return merge(parts);
}

/** Longest common subsequence by table. */
function middle(a, b) {
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const parts = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { parts.push(["same", a[i++]]); j++; }
    else if (j >= b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) parts.push(["del", a[i++]]);
    else parts.push(["ins", b[j++]]);
  }
  return parts;
}

function merge(parts) {
  const merged = [];
  for (const [kind, text] of parts) {
    if (!text) continue;
    if (merged.at(-1)?.[0] === kind) merged.at(-1)[1] += text;
    else merged.push([kind, text]);
  }
  return merged;
}

/** The difference as an element; `only` shows one side: "del" the old text, "ins" the new one. */
export function diffElement(before, after, only) {
  const shown = diffWords(before, after).filter(([kind]) => kind === "same" || !only || kind === only);
  return h("div", { class: "asis", dir: "auto" }, shown.map(([kind, text]) => (kind === "same" ? seen(text) : h(kind, {}, seen(text)))));
}
