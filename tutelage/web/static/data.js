// The list of items: selecting, changing many at once, keys.

import { api } from "./api.js";
import { CHANGES } from "./dialog.js";
import { data, h, t } from "./dom.js";
import { Keys } from "./keys.js";

const boxes = [...document.querySelectorAll("[data-item]")];
const links = [...document.querySelectorAll("#items tbody a")];
const bulk = document.getElementById("bulk");
const all = document.getElementById("all");
const WORDS = {
  tag: t("Tag"), untag: t("Untag"), reserve: t("Reserve"), priority: t("Priority"), overlap: t("Annotators"),
  close: t("Take out of the queue"), reopen: t("Back into the queue"), resolve: t("Resolve flags"),
};
let whole = false, last = -1; // whole: all that fit the search, seen or not

// A form sends its empty fields, too; an address to share has only what was asked.
document.getElementById("search").addEventListener("submit", (event) => {
  for (const field of event.target.elements) if (!field.value) field.disabled = true;
});
addEventListener("pageshow", () => { for (const field of document.getElementById("search").elements) field.disabled = false; });

const chosen = () => boxes.filter((box) => box.checked);

function draw() {
  const some = chosen();
  if (some.length < boxes.length) whole = false;
  bulk.hidden = !some.length;
  all.checked = some.length > 0 && some.length === boxes.length;
  all.indeterminate = some.length > 0 && !all.checked;
  const said = whole ? t("All {n} that fit are selected.", { n: data.total.toLocaleString(document.documentElement.lang) }) : t("{n} selected.", { n: some.length });
  const wider = all.checked && !whole && data.total > boxes.length
    ? h("button", { type: "button", class: "quiet", onclick: () => { whole = true; draw(); } }, t("Select all {n} that fit", { n: data.total.toLocaleString(document.documentElement.lang) })) : null;
  bulk.replaceChildren(h("strong", { role: "status" }, said), ...(wider ? [wider] : []),
    ...Object.entries(WORDS).map(([name, words]) => h("button", { type: "button", onclick: () => act(name) }, words)),
    h("button", { type: "button", class: "quiet", onclick: () => { for (const box of boxes) box.checked = false; draw(); } }, t("Select none")));
}

async function act(name) {
  const change = await CHANGES[name](data);
  if (!change) return;
  const n = whole ? data.total : chosen().length;
  if (whole && !confirm(t("{what}: this changes all {n} items that fit the search.", { what: WORDS[name], n: n.toLocaleString(document.documentElement.lang) }))) return;
  const which = whole ? { all: data.asked, count: n } : { items: chosen().map((box) => Number(box.dataset.item)) };
  try {
    await api("POST", `${data.base}/items/change`, { ...which, change }, { wait: 120_000 });
    location.reload();
  } catch (error) { alert(error.message); }
}

if (bulk) {
  boxes.forEach((box, i) => box.addEventListener("click", (event) => {
    if (event.shiftKey && last >= 0) for (const one of boxes.slice(Math.min(i, last), Math.max(i, last) + 1)) one.checked = box.checked;
    last = i;
    draw();
  }));
  all.addEventListener("click", () => { for (const box of boxes) box.checked = all.checked; draw(); });
  draw(); // a reload keeps what was checked
}

function move(by) {
  const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  const next = links[Math.max(0, Math.min(links.length - 1, at < 0 ? 0 : at + by))];
  next?.focus();
  next?.closest("tr").scrollIntoView({ block: "nearest" });
}
const keys = new Keys();
keys.common = {
  "/": () => document.querySelector('[name="text"]').focus(), j: () => move(1), k: () => move(-1),
  x: () => document.activeElement.closest?.("tr")?.querySelector("[data-item]")?.click(),
};
