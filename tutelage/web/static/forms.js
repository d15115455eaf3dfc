// Forms that go to the API: fields become JSON by their names ("settings.title"), refusals appear beside the button.

import { api } from "./api.js";
import { copyButton, h, t } from "./dom.js";

/** The fields of a form as JSON: numbers as numbers, boxes as booleans, dots as nesting. */
export function readForm(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === "radio" && !field.checked)) continue;
    const value = field.type === "checkbox" ? field.checked : field.type === "number" || field.dataset.type === "number" ? (field.value === "" ? null : Number(field.value)) : field.value;
    const path = field.name.split(".");
    const last = path.pop();
    let into = body;
    for (const part of path) into = into[part] ??= {};
    into[last] = value;
  }
  return body;
}

/** The place beside a form's button where it says what became of it. */
export function said(form, text, kind = "") {
  let place = form.querySelector(".said");
  if (!place) {
    place = h("p", { class: "said", role: "status" });
    form.append(place);
  }
  place.className = `said notice ${kind}`;
  place.hidden = !text;
  place.textContent = text;
}

/** Send a form when it is submitted. `body` makes the JSON, `then` gets the answer; without it the page says `done`. */
export function bind(form, { method = form.dataset.method ?? "POST", url = form.dataset.url, body = readForm, then, done = t("Saved.") }) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter ?? form.querySelector("button");
    if (button) button.disabled = true;
    try {
      const answer = await api(method, typeof url === "function" ? url(form) : url, await body(form));
      said(form, done, "good");
      form.dispatchEvent(new Event("saved"));
      await then?.(answer, form);
    } catch (error) {
      said(form, error.message, "bad");
    } finally {
      if (button) button.disabled = false;
    }
  });
}

/**
 * Buttons that each do one thing over the API, then load the page again (or `then`). `act` gets the button's dataset.
 * Before, `question` has words to confirm, or `ask` resolves to what `act` gets besides: null when one thinks better of it.
 */
export function buttons(selector, act, { question, ask = () => true, then = () => location.reload() } = {}) {
  for (const element of document.querySelectorAll(selector)) {
    element.addEventListener("click", async () => {
      const words = question?.(element.dataset);
      if (words && !confirm(words)) return;
      const said = await ask(element.dataset);
      if (!said) return;
      element.disabled = true;
      try { then(await act(element.dataset, said), element); }
      catch (error) { alert(error.message); element.disabled = false; }
    });
  }
}

/** A secret that is told once. */
export function secretBox(intro, secret) {
  const box = h("div", { class: "secret" }, secret);
  return h("div", { class: "notice good", role: "status" }, h("p", {}, intro), box, h("div", { class: "row" }, copyButton(secret, box)));
}
