// Building the page: elements from text, never from markup, except for HTML that the server has sanitised.

const policy = globalThis.trustedTypes?.createPolicy("tutelage", { createHTML: (html) => html });

const json = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "{}");
const texts = json("texts");

/** What the server gives to the page's script. */
export const data = json("data");

/** A text of the interface in the visitor's language; `{name}` in it becomes `names.name`. */
export function t(text, names = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => (name in names ? String(names[name]) : whole));
}

/** An element. `props` are attributes; on* are listeners, `class`, `dataset` and booleans work as one expects. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A key beside the words of a button: to be seen, not heard. */
export const kbd = (key) => h("kbd", { "aria-hidden": "true" }, key);

/** Insert HTML that came sanitised from our own server: the only place that parses markup. */
export function setHtml(element, html) {
  element.innerHTML = policy ? policy.createHTML(html) : html;
  return element;
}

/** A rendered text: Markdown where there is some, else as written, with a note why; `raw` shows it as written. */
export function textOf(rendered, raw = false) {
  const written = rendered.html === null || raw;
  const shown = setHtml(h("div", { class: written ? "asis" : "prose", dir: "auto" }), written ? rendered.raw : rendered.html);
  const note = raw ? null : rendered.note === "text" ? t("Shown as written: laid out as Markdown, some of it would be lost.")
    : rendered.note === "formulas" ? t("A formula that cannot be drawn is shown as its source.") : null;
  if (note) shown.append(h("p", { class: "as-written", dir: document.documentElement.dir }, note));
  return shown;
}

const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Text for a text node, with the characters that one cannot see, or that turn the line round, written out. */
export const seen = (text) => text.replace(UNSEEN, (c) => `[U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);

/** Say something to those who listen to the page. */
export function announce(text) {
  const place = document.getElementById("announce");
  if (!place) return;
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 30);
}

let serial = 0;
export const uid = (prefix) => `${prefix}-${++serial}`;

/** Native radio buttons that look like one control. `options`: [value, label, key?, description?]. */
export function segments({ legend, options, name = uid("choice"), onchange, css = "", hideLegend = false, title }) {
  const inputs = new Map();
  const labels = options.map(([value, label, key, description]) => {
    const input = h("input", { type: "radio", name, value: String(value), onchange: () => onchange?.(value), "aria-label": description });
    inputs.set(value, input);
    return h("label", { title: description }, input, h("span", {}, label), key ? kbd(key) : null);
  });
  const element = h("fieldset", { title }, h("legend", { class: hideLegend ? "visually-hidden" : "" }, legend), h("div", { class: `segments ${css}` }, labels));
  return {
    element,
    inputs,
    get value() { for (const [value, input] of inputs) if (input.checked) return value; return undefined; },
    set value(wanted) { for (const [value, input] of inputs) input.checked = value === wanted; },
    /** On the chosen one, else on the first. */
    focus() { (inputs.get(this.value) ?? inputs.values().next().value).focus({ preventScroll: true }); },
    choose(value) { const input = inputs.get(value); if (!input || input.disabled) return false; input.checked = true; input.focus({ preventScroll: true }); onchange?.(value); return true; },
  };
}

export const letter = (position) => "ABCDEFGHI"[position];

/** Letters by their ranks, best first, such as "B > A = C"; what has no rank is left out. */
export function inOrder(ranks, between = " > ") {
  const order = [...new Set(ranks)].filter(Boolean).sort((a, b) => a - b);
  return order.map((rank) => ranks.flatMap((own, i) => (own === rank ? [letter(i)] : [])).join(" = ")).join(between);
}

/** A button that copies a text; where that is not allowed it selects `place`, which shows the text. */
export function copyButton(text, place) {
  const button = h("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = t("Copied"); } catch { getSelection().selectAllChildren(place); }
  } }, t("Copy"));
  return button;
}

/** An answer's random name. */
export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
