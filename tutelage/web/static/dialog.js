// Questions in a dialog, and what managers do to items, from the list as from the page of one.

import { h, t, uid } from "./dom.js";

/** A dialog with a title; it goes when it is closed, and then `onclose` is told. */
export function openDialog(title, content, { onclose, css } = {}) {
  const id = uid("dialog");
  const dialog = h("dialog", { class: css, "aria-labelledby": id, onclose: () => { dialog.remove(); onclose?.(dialog.returnValue); } }, h("h2", { id }, title), content);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A wide dialog to read, with a button that closes it. */
export function showDialog(title, ...content) {
  return openDialog(title, [content, h("form", { method: "dialog", class: "foot" }, h("button", {}, t("Close")))], { css: "wide" });
}

/** Asks; `fields` are {name, label, value?, type?, options?, choices?, tall?, required?}. Resolves to the values, or null when closed. */
export function ask({ title, intro, fields, action, danger = false }) {
  return new Promise((resolve) => {
    const inputs = new Map(fields.map((field) => [field.name, input(field)]));
    const read = () => Object.fromEntries([...inputs].map(([name, element]) => [name, valueOf(element)]));
    const form = h("form", { method: "dialog" }, intro ? h("p", { class: "soft" }, intro) : null,
      fields.map((field) => labelled(field, inputs.get(field.name))),
      h("div", { class: "row" }, h("button", { class: danger ? "danger" : "primary", value: "ok" }, action),
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, t("Cancel"))));
    const dialog = openDialog(title, form, { onclose: (value) => resolve(value === "ok" ? read() : null) });
  });
}

function valueOf(element) {
  if (element.multiple) return [...element.selectedOptions].map((one) => one.value);
  return (element.querySelector(":checked") ?? element).value.trim();
}

function input({ name, label, choices, value = "", type = "text", options, multiple, tall, required = true, max, list, min }) {
  if (options) return h("select", { multiple, size: multiple ? Math.min(6, options.length) : null }, options.map((one) => h("option", { value: one, selected: multiple && value.includes(one) }, one)));
  if (choices) return h("fieldset", {}, h("legend", { class: "visually-hidden" }, label), choices.map(([one, words], i) =>
    h("label", { class: "check" }, h("input", { type: "radio", name, value: one, required: true, checked: i === 0 }), words)));
  if (tall) return h("textarea", { rows: 3, required, maxlength: max ?? 2000, value });
  return h("input", { type, required, value, maxlength: max, min, step: type === "number" ? "any" : null, list });
}

function labelled({ label, choices, known }, element) {
  if (choices) return element;
  const words = h("datalist", { id: uid("known") }, (known ?? []).map((value) => h("option", { value })));
  if (known?.length) element.setAttribute("list", words.id);
  return h("label", { class: "field" }, h("span", { class: "label" }, label), element, known?.length ? words : null);
}

/** A change that asks first: what to ask, and what the values make of it. */
const asking = (asked, made) => async (data) => {
  const said = await ask(asked(data));
  return said && made(said);
};
const tagField = ({ tags }) => [{ name: "tag", label: t("Tag"), max: 60, known: tags }];

function people({ members, teams, reserved = [] }) {
  const field = (name, label, options, value) => ({ name, label, options, value, multiple: true, required: false });
  const ofTeams = reserved.map((name) => name.replace(/^@/, ""));
  return [field("people", t("People"), members, reserved), field("roles", t("Roles"), [t("experts")], reserved.includes("(experts)") ? [t("experts")] : []), ...(teams.length ? [field("teams", t("Teams"), teams, ofTeams)] : [])];
}

/** Each asks what is needed and resolves to a change for the API, or null. `data` has members, teams, tags. */
export const CHANGES = {
  close: async () => ({ what: "close", closed: true }),
  reopen: async () => ({ what: "close", closed: false }),
  priority: asking(() => ({ title: t("Set the priority"), intro: t("High comes first."), fields: [{ name: "priority", label: t("Priority"), type: "number", value: "1" }], action: t("Set") }),
    ({ priority }) => ({ what: "priority", priority: Number(priority) })),
  overlap: asking(() => ({ title: t("Annotators wanted per item"), fields: [{ name: "overlap", label: t("Annotators"), type: "number", value: "2", min: 1 }], action: t("Set") }),
    ({ overlap }) => ({ what: "overlap", overlap: Number(overlap) })),
  tag: asking((data) => ({ title: t("Add a tag"), fields: tagField(data), action: t("Add") }), ({ tag }) => ({ what: "tag", tag })),
  untag: asking((data) => ({ title: t("Take a tag away"), fields: tagField(data), action: t("Take away") }), ({ tag }) => ({ what: "tag", tag, on: false })),
  reserve: asking((data) => ({ title: t("Reserve"), intro: t("Only those chosen here get it. Nobody chosen: it is for everybody again."), fields: people(data), action: t("Save") }),
    ({ people, roles, teams = [] }) => ({ what: "reserve", people, teams, experts: roles.length > 0 })),
  resolve: asking(() => ({ title: t("Resolve the flags"), fields: [{ name: "word", label: t("What came of it"), max: 500 }], action: t("Resolve") }),
    ({ word }) => ({ what: "resolve", word })),
};
