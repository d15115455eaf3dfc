// What several screens share: the prompt, the cards of responses, and the questions beside the main one.

import { announce, h, kbd, letter, segments, t, textOf, uid } from "../dom.js";

const ROLES = { system: t("system"), user: t("user"), assistant: t("assistant"), tool: t("tool") };
const QUESTIONS = {
  pair: () => t("Which response is better?"), rank: () => t("Which response is best?"), rate: (one) => (one ? t("How good is the response?") : t("How good is each response?")),
  step: () => t("Is each step right?"), rewrite: () => t("How should the response read?"), chat: () => t("Talk with the models."),
};

/** The question of the project, as its author put it; else the one that goes with the type of the item. */
export function questionText(task) {
  const asked = task.questions.question;
  return asked && asked !== "Which response is better?" ? asked : QUESTIONS[task.type](task.responses.length === 1);
}

/** The question in the bar, with what else stands beside it. */
export const asked = (task, ...beside) => h("div", { class: "question row" }, h("strong", { class: "asked" }, questionText(task)), beside);

/** What to mind, then the prompt or conversation, foldable, always on top. */
export function promptPart(view, ctx) {
  const turns = view.task.thread.map((turn, i) => {
    const many = view.task.thread.length > 1 || !view.task.plain_prompt;
    return h("div", { class: `turn ${turn.role === "user" ? "user" : "assistant"}` },
      many ? h("div", { class: "who" }, ROLES[turn.role] ?? turn.role) : null, textOf(view.thread[i], ctx.raw));
  });
  const { instruction } = view.task.questions;
  return h("div", { class: "more" }, instruction ? h("p", { class: "instruction", dir: "auto" }, instruction) : null,
    h("details", { class: "prompt", open: true },
      h("summary", {}, view.task.thread.length > 1 ? t("Conversation") : t("Prompt")), h("div", { class: "turns" }, turns)));
}

/** One response in a card; `footer` and `below` are what a screen asks about it. */
export function responseCard(view, position, ctx, { footer = [], below = [], head = [] } = {}) {
  const shown = view.task.responses[position];
  const end = h("div", { class: "end", dataset: { end: String(position) } });
  const body = h("div", { class: "body" }, textOf(view.responses[position], ctx.raw), end);
  const single = view.task.responses.length === 1;
  const words = ctx.settings.show_word_counts ? h("span", { class: "soft small" }, t("{n} words", { n: shown.text.split(/\s+/).filter(Boolean).length })) : null;
  const card = h("article", { class: "response", "aria-label": single ? t("Response") : t("Response {letter}", { letter: letter(position) }) },
    single && !head.length && !words ? null : h("header", {}, single ? null : h("h2", { class: "letter" }, letter(position)), words, head),
    body, below, footer.length ? h("footer", {}, footer) : null);
  return { card, body, end };
}

/** Watches, where the project wants that, until the end of every response has been on the screen. */
export class Seen {
  constructor(cards, { settings, preview, changed }) {
    const ends = settings.require_scroll && !preview ? cards.map((card) => card.end) : [];
    this.missing = new Set(ends.map((end) => end.dataset.end));
    this.single = ends.length === 1;
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.missing.delete(entry.target.dataset.end);
      changed();
    });
    for (const end of ends) this.observer.observe(end);
  }
  stop() { this.observer.disconnect(); }
  get problem() {
    if (!this.missing.size) return null;
    const names = [...this.missing].map((name) => letter(Number(name))).join(", ");
    return this.single ? t("Scroll to the end of the response.") : this.missing.size === 1 ? t("Scroll to the end of response {names}.", { names }) : t("Scroll to the ends of responses {names}.", { names });
  }
}

/** The cards of all responses, each with "Acceptable on its own?" where the project asks that. */
export class Cards {
  /** `more(position)`: what else is in a card, as `responseCard` takes it; `key(position)`: says yes, and no when pressed again. */
  constructor(view, ctx, { more = () => ({}), key = () => undefined } = {}) {
    const { questions, responses } = view.task;
    this.asks = questions.acceptable;
    this.all = responses.map((_, position) => {
      const accept = this.asks ? acceptable(position, responses.length === 1, key(position), ctx.changed) : null;
      return { accept, ...responseCard(view, position, ctx, { footer: accept ? [accept.element] : [], ...more(position) }) };
    });
    this.seen = new Seen(this.all, ctx);
    this.elements = this.all.map((card) => card.card);
  }
  /** The groups to step through, card by card; `before(position)` come before whether it is acceptable. */
  groups(before = () => []) { return this.all.flatMap(({ accept }, position) => [...before(position), ...(accept ? [accept] : [])]); }
  toggle(position) { const { accept } = this.all[position]; accept.choose(accept.value !== true); }
  get acceptable() { return this.asks ? this.all.map((card) => card.accept.value ?? null) : []; }
  get problem() { return this.acceptable.includes(null) ? t("Say of each response whether it is acceptable.") : null; }
  restore(answer) {
    (answer.acceptable ?? []).forEach((value, i) => { if (value !== null && this.all[i]?.accept) this.all[i].accept.value = value; });
  }
}

function acceptable(position, single, key, onchange) {
  return segments({
    legend: single ? t("Is the response acceptable?") : t("Is response {letter} acceptable?", { letter: letter(position) }), css: "compact fit",
    options: [[true, t("Acceptable"), key], [false, t("Not acceptable")]], onchange, hideLegend: true,
  });
}

/**
 * A button by which a model writes, and beside it a note: why it cannot, that it does (`writing`), or what went wrong.
 * `lacking` gives [words, field] where something is to be written first; `write` resolves to what the note says in the end.
 */
export function modelButton(words, ctx, { lacking, writing, write }) {
  const note = h("p", { class: "hint", role: "status" }, ctx.generation ?? "");
  const off = () => button.setAttribute("aria-disabled", "true");
  async function press() {
    if (button.getAttribute("aria-disabled") === "true") return announce(note.textContent);
    const [missing, field] = lacking() ?? [];
    if (field) { note.textContent = missing; return field.focus(); }
    off();
    note.textContent = writing;
    try { note.textContent = await write(); }
    catch (error) { note.textContent = error.message; }
    finally { button.removeAttribute("aria-disabled"); }
  }
  const button = h("button", { type: "button", onclick: press }, words);
  if (ctx.generation || ctx.preview) off();
  return { button, note, press };
}

/** Confidence and reason, as far as the project asks for them. `about` names what the reason is for. */
export class Remarks {
  constructor(questions, ctx, about = t("Reason")) {
    this.questions = questions;
    this.confidence = questions.confidence
      ? segments({ legend: t("How sure are you? (1 = guessing, 9 = certain)"), css: "compact", options: Array.from({ length: 9 }, (_, i) => [i + 1, String(i + 1)]), onchange: ctx.changed })
      : null;
    const id = uid("reason");
    this.text = questions.reason === "off" ? null : h("textarea", { id, oninput: ctx.changed, maxlength: 100_000, rows: 2 });
    this.element = h("div", { class: "more" }, this.confidence?.element, this.text
      ? h("div", {}, h("label", { class: "label", for: id }, about, " ", h("span", { class: "soft small" }, questions.reason === "required" ? t("(required)") : t("(if you like)")), " ", kbd("r")), this.text) : null);
  }
  get problem() {
    if (this.confidence && this.confidence.value === undefined) return t("Say how sure you are.");
    if (this.questions.reason === "required" && !this.text.value.trim()) return t("Write a reason.");
    return null;
  }
  read() { return { confidence: this.confidence?.value ?? null, reason: this.text?.value ?? "" }; }
  restore(answer) {
    if (this.confidence && answer.confidence) this.confidence.value = answer.confidence;
    if (this.text) this.text.value = answer.reason ?? "";
  }
  get keys() { return this.text ? { r: () => { this.text.focus(); this.text.scrollIntoView({ block: "center" }); } } : {}; }
  get help() { return this.text ? [["r", t("write a reason")]] : []; }
}

/** Moves the focus among `groups` (fieldsets): to the checked control, or the first one. */
export function stepThrough(groups, by) {
  const elements = groups.map((group) => group.element ?? group);
  const at = elements.findIndex((element) => element.contains(document.activeElement));
  const next = elements[at < 0 ? (by > 0 ? 0 : elements.length - 1) : (at + by + elements.length) % elements.length];
  const control = next?.querySelector("input:checked") ?? next?.querySelector("input, textarea");
  control?.focus();
  control?.closest("fieldset, article, li")?.scrollIntoView({ block: "nearest" });
}
