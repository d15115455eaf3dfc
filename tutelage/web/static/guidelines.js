// The page of the guidelines: the newest version has been on the screen.

import { api } from "./api.js";

const { seen } = JSON.parse(document.getElementById("data").textContent);
const say = () => { if (document.visibilityState === "visible") api("POST", seen).catch(() => {}); };
say();
document.addEventListener("visibilitychange", say);
