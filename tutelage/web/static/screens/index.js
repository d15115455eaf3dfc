// Which screen shows which type of item.

import { chatScreen } from "./chat.js";
import { pairScreen } from "./pair.js";
import { rankScreen } from "./rank.js";
import { rateScreen } from "./rate.js";
import { rewriteScreen } from "./rewrite.js";
import { stepScreen } from "./step.js";

export const SCREENS = { pair: pairScreen, rank: rankScreen, rate: rateScreen, step: stepScreen, rewrite: rewriteScreen, chat: chatScreen };
