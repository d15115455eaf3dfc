// Managing a project: each part of the page has a script of its own.

import { api } from "./api.js";
import { t } from "./dom.js";
import { button } from "./forms.js";
import "./manage/import.js";
import "./manage/questions.js";
import "./manage/build.js";
import "./manage/people.js";
import "./manage/tabs.js";
import "./manage/webhooks.js";

const remove = document.getElementById("delete-project");
if (remove) button(remove, () => api("DELETE", remove.dataset.url), { question: t("Delete “{title}”? It can be restored.", remove.dataset), then: () => location.assign("/") });
