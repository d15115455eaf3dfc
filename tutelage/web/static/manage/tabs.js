// The parts of the page as tabs: all stay in the document, so that nothing typed is lost; an address names one (#people).

import { t } from "../dom.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const panels = tabs.map((tab) => document.getElementById(tab.getAttribute("aria-controls")));

function open(at) {
  tabs.forEach((tab, i) => {
    tab.setAttribute("aria-selected", String(i === at));
    tab.tabIndex = i === at ? 0 : -1;
    panels[i].hidden = i !== at;
  });
}

/** The part that the address names: by itself, or by something in it. */
function fromAddress() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const at = panels.findIndex((panel) => panel.contains(target));
  if (panels[at]?.dataset.stale) return location.reload();
  open(Math.max(0, at));
  if (at < 0 || target === panels[at] || target === panels[at].querySelector("section")) scrollTo(0, 0); // with the tabs in sight
  else target.scrollIntoView();
}

tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => open(i));
  tab.addEventListener("keydown", (event) => {
    const step = document.documentElement.dir === "rtl" ? -1 : 1;
    const to = { ArrowRight: i + step, ArrowLeft: i - step, Home: 0, End: tabs.length - 1 }[event.key];
    if (event.key === " ") tab.click();
    else if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    history.replaceState(null, "", next.hash);
    fromAddress();
    next.focus();
  });
});
addEventListener("hashchange", fromAddress);
fromAddress();

// Edits that are not saved: a mark on their tab, and a question before the page is left.
const edited = new Set();
function mark() {
  tabs.forEach((tab, i) => {
    const own = [...edited].some((form) => panels[i].contains(form));
    tab.classList.toggle("edited", own);
    tab.title = own ? t("Not saved yet") : "";
  });
}
for (const form of document.querySelectorAll('form[data-method="PUT"]:not(#priority-form)')) {
  form.addEventListener("input", () => { edited.add(form); mark(); });
  form.addEventListener("saved", () => { edited.delete(form); mark(); });
}
addEventListener("beforeunload", (event) => { if (edited.size) event.preventDefault(); });
