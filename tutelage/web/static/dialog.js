// Questions in a dialog, and what managers do to items, from the list as from the page of one.

import { h, t, uid } from "./dom.js";

/** Asks; `fields` are {name, label, value?, type?, options?, choices?, tall?, required?}. Resolves to the values, or null when closed. */
export function ask({ title, intro, fields, action, danger = false }) {
  return new Promise((resolve) => {
    const id = uid("dialog");
    const inputs = new Map(fields.map((field) => [field.name, input(field)]));
    const form = h("form", { method: "dialog" }, h("h2", { id }, title), intro ? h("p", { class: "soft" }, intro) : null,
      fields.map((field) => labelled(field, inputs.get(field.name))),
      h("div", { class: "row" }, h("button", { class: danger ? "danger" : "primary", value: "ok" }, action),
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, t("Cancel"))));
    const dialog = h("dialog", { "aria-labelledby": id, onclose: () => { dialog.remove(); resolve(dialog.returnValue === "ok" ? read() : null); } }, form);
    const read = () => Object.fromEntries([...inputs].map(([name, element]) => [name, valueOf(element)]));
    document.body.append(dialog);
    dialog.showModal();
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

function labelled(field, element) {
  if (field.choices) return element;
  if (!field.known?.length) return h("label", { class: "field" }, h("span", { class: "label" }, field.label), element);
  const id = uid("known");
  element.setAttribute("list", id);
  return h("label", { class: "field" }, h("span", { class: "label" }, field.label), element, h("datalist", { id }, field.known.map((value) => h("option", { value }))));
}

const tagField = (tags) => ({ name: "tag", label: t("Tag"), max: 60, known: tags });

/** Each asks what is needed and resolves to a change for the API, or null. `data` has members, teams, tags. */
export const CHANGES = {
  close: async () => ({ what: "close", closed: true }),
  reopen: async () => ({ what: "close", closed: false }),
  async priority() {
    const said = await ask({ title: t("Set the priority"), intro: t("High comes first."), fields: [{ name: "priority", label: t("Priority"), type: "number", value: "1" }], action: t("Set") });
    return said && { what: "priority", priority: Number(said.priority) };
  },
  async overlap() {
    const said = await ask({ title: t("Annotators wanted per item"), fields: [{ name: "overlap", label: t("Annotators"), type: "number", value: "2", min: 1 }], action: t("Set") });
    return said && { what: "overlap", overlap: Number(said.overlap) };
  },
  async tag(data) {
    const said = await ask({ title: t("Add a tag"), fields: [tagField(data.tags)], action: t("Add") });
    return said && { what: "tag", tag: said.tag };
  },
  async untag(data) {
    const said = await ask({ title: t("Take a tag away"), fields: [tagField(data.tags)], action: t("Take away") });
    return said && { what: "tag", tag: said.tag, on: false };
  },
  async reserve(data) {
    const fields = [{ name: "people", label: t("People"), options: data.members, multiple: true, value: data.reserved ?? [], required: false }];
    if (data.teams.length) fields.push({ name: "teams", label: t("Teams"), options: data.teams, multiple: true, value: (data.reserved ?? []).map((name) => name.replace(/^@/, "")), required: false });
    const said = await ask({ title: t("Reserve"), intro: t("Only those chosen here get it. Nobody chosen: it is for everybody again."), fields, action: t("Save") });
    return said && { what: "reserve", people: said.people, teams: said.teams ?? [] };
  },
  async resolve() {
    const said = await ask({ title: t("Resolve the flags"), fields: [{ name: "word", label: t("What came of it"), max: 500 }], action: t("Resolve") });
    return said && { what: "resolve", word: said.word };
  },
};
