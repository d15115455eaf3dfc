// Managing a project: each part of the page has a script of its own.

import { api } from "./api.js";
import { button } from "./forms.js";
import "./manage/import.js";
import "./manage/questions.js";
import "./manage/build.js";
import "./manage/people.js";
import "./manage/webhooks.js";

const remove = document.getElementById("delete-project");
if (remove) button(remove, () => api("DELETE", remove.dataset.url), { question: `Delete “${remove.dataset.title}”? It can be restored.`, then: () => location.assign("/") });
