// Chat: the annotator talks, two or more models answer blind, the chosen answer goes on.

import { api } from "../api.js";
import { announce, h, kbd, randomKey, segments, t, textOf, uid } from "../dom.js";
import { pairScreen } from "./pair.js";
import { Remarks, asked, modelButton, promptPart } from "./parts.js";
import { rankScreen } from "./rank.js";

export function chatScreen(view, ctx) {
  const questions = view.task.questions;
  const url = `${ctx.base}/assignments/${view.task.assignment_id}`;
  const remarks = new Remarks(questions, ctx);
  const thread = h("div", { class: "thread" });
  const place = h("div", { class: "more" });
  const id = uid("message");
  const message = h("textarea", { id, rows: 2, maxlength: 20_000, oninput: () => { drawSend(); ctx.changed(); }, placeholder: t("Write to the model") });
  const { button: send, note, press: say } = modelButton("", ctx, {
    lacking: () => (message.value.trim() || opening() ? null : ["", message]),
    writing: t("The models write…"),
    async write() {
      await api("POST", `${url}/turns`, { message: message.value }, { wait: 200_000 });
      message.value = "";
      note.textContent = "";
      await load();
      return note.textContent; // what went wrong in loading
    },
  });
  send.classList.add("primary");
  const compose = h("div", { class: "card" }, h("label", { class: "label", for: id }, t("Your message"), " ", kbd("m")), message, h("div", { class: "row" }, send, note));
  const satisfied = segments({ legend: t("Are you satisfied with the conversation?"), css: "compact fit beside", options: [[true, t("Yes")], [false, t("No")]], onchange: ctx.changed });
  const answerable = view.task.thread.at(-1)?.role !== "assistant"; // the models can begin with the prompt as it is
  let done = 0; // turns with a choice
  let open = null; // the turn that waits for a choice

  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); event.stopPropagation(); say(); }
  });

  const opening = () => answerable && !done && !message.value.trim();
  function drawSend() { send.textContent = opening() ? t("Let the models answer the prompt") : t("Send"); }
  function bubble(role, rendered) { return h("div", { class: `bubble ${role}`, dir: "auto" }, textOf(rendered, ctx.raw)); }
  async function load() {
    if (ctx.preview) return;
    try {
      const turns = await api("GET", `${url}/turns`);
      thread.replaceChildren();
      done = 0;
      open = null;
      if (place.firstChild !== compose) place.replaceChildren(compose); // moving it would take the focus away
      for (const turn of turns) {
        if (turn.message.raw) thread.append(bubble("user", turn.message));
        if (turn.chosen) { thread.append(bubble("assistant", turn.chosen)); done++; }
        else offer(turn.view);
      }
      drawSend();
      remarks.element.hidden = open !== null; // one question at a time
      ctx.changed();
    } catch (error) { note.textContent = error.message; }
  }
  /** Show the candidates of a turn and ask for a choice. */
  function offer(turn) {
    const started = performance.now();
    const inner = { ...ctx, settings: { ...ctx.settings, require_scroll: false }, changed: () => { drawProblem(); ctx.changed(); } };
    const screen = (turn.task.type === "pair" ? pairScreen : rankScreen)(turn, inner);
    const problem = h("span", { class: "hint", role: "status" });
    const choose = h("button", { class: "primary", type: "button", onclick: take }, t("Choose"), kbd("Enter"));
    const key = randomKey();
    function drawProblem() {
      const now = screen.read().problem;
      problem.textContent = now ?? "";
      choose.setAttribute("aria-disabled", String(Boolean(now)));
    }
    async function take() {
      const { answer, problem: now } = screen.read();
      if (now) return announce(now);
      if (choose.getAttribute("aria-disabled") === "true") return; // on its way
      choose.setAttribute("aria-disabled", "true");
      try {
        const given = { answer, active_ms: Math.min(86_400_000, Math.round(performance.now() - started)), ui_version: ctx.version, store: turn.task.store, item_digest: turn.task.item_digest };
        await api("POST", `${ctx.base}/assignments/${turn.task.assignment_id}/choose`, given, { key });
        announce(t("Chosen. Go on, or finish."));
        await load();
        message.focus();
      } catch (error) { problem.textContent = error.message; choose.removeAttribute("aria-disabled"); }
    }
    open = { screen, take };
    const [, ...parts] = screen.stage; // without the prompt: the thread is above
    place.replaceChildren(h("section", { class: "more", "aria-label": t("Candidates") }, parts, screen.bar, h("div", { class: "row" }, choose, problem)));
    drawProblem();
  }

  place.append(compose);
  drawSend();
  load();
  const own = { m: () => message.focus(), ...remarks.keys };
  return {
    stage: [view.task.thread.length ? promptPart(view, ctx) : null, thread, place, remarks.element],
    bar: [asked(view.task, satisfied.element)],
    read() {
      const problem = ctx.preview ? null : open ? t("Choose an answer first.") : done ? remarks.problem : t("Talk for at least one turn.");
      return { answer: { type: "chat", satisfied: satisfied.value ?? null, ...remarks.read() }, problem };
    },
    draft(answer) { return { ...answer, message: message.value }; },
    restore(answer) {
      if (typeof answer.satisfied === "boolean") satisfied.value = answer.satisfied;
      message.value = answer.message ?? "";
      drawSend();
      remarks.restore(answer);
    },
    get keys() {
      return new Proxy(own, { get: (_, key) => (open && key === "Enter" ? open.take : open?.screen.keys[key]) ?? own[key] });
    },
    help: [["m", t("write a message (Enter sends it)")], ["1 to 7", t("compare the candidates")], ["Enter", t("choose, or submit the chat")], ...remarks.help],
  };
}
