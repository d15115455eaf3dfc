// The page of the guidelines: the newest version has been on the screen.

import { api } from "./api.js";
import { data } from "./dom.js";

const say = () => { if (document.visibilityState === "visible") api("POST", data.seen).catch(() => {}); };
say();
document.addEventListener("visibilitychange", say);
