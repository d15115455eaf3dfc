// Managing a project: each part of the page has a script of its own.

import { api } from "./api.js";
import { t } from "./dom.js";
import { buttons } from "./forms.js";
import "./manage/import.js";
import "./manage/questions.js";
import "./manage/build.js";
import "./manage/people.js";
import "./manage/tabs.js";
import "./manage/webhooks.js";

buttons("#delete-project", ({ url }) => api("DELETE", url), { question: (of) => t("Delete “{title}”? It can be restored.", of), then: () => location.assign("/") });
