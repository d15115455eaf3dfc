// One item: gold and closing.

import { api } from "./api.js";
import { button } from "./forms.js";

const data = JSON.parse(document.getElementById("data").textContent);
const url = `${data.base}/items/${data.item}`;
for (const element of document.querySelectorAll("[data-gold]"))
  button(element, () => api("PUT", `${url}/gold`, { answer: JSON.parse(element.dataset.gold) }));
for (const element of document.querySelectorAll("[data-close]"))
  button(element, () => api("PUT", `${url}/closed`, { closed: element.dataset.close === "yes" }));
