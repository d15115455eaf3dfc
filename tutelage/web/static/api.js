// Talking to the server: JSON, the CSRF token, and errors that say whether trying again can help.

import { t } from "./dom.js";

export class ApiError extends Error {
  /** `status` 0: the server could not be reached. */
  constructor(status, sentence, reason = "") {
    super(sentence);
    this.status = status;
    this.reason = reason;
  }
  get temporary() { return this.status === 0 || this.status === 429 || this.status >= 500; }
}

const meta = document.querySelector('meta[name="csrf"]');
const LONGEST_WAIT = 30_000;

/** `key`: an answer's own name; `wait`: patience in ms; `keepalive`: the request may outlive the page. */
async function send(method, url, body, { signal, wait = LONGEST_WAIT, keepalive = false, type = "application/json", key } = {}) {
  const timeout = AbortSignal.timeout(wait);
  const headers = { "X-CSRF-Token": meta?.content ?? "" };
  if (body !== undefined) headers["Content-Type"] = type;
  if (key) headers["Idempotency-Key"] = key;
  const payload = body === undefined || typeof body === "string" || body instanceof Blob ? body : JSON.stringify(body);
  try {
    return await fetch(url, {
      method, headers, body: payload, keepalive, credentials: "same-origin", redirect: "error",
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, t("The server cannot be reached."));
  }
}

/** Ask once more with a new CSRF token, after the session was renewed in another tab. */
async function renewCsrf() {
  const answer = await send("GET", "/api/v1/me");
  if (!answer.ok) return false;
  const fresh = (await answer.json()).csrf;
  if (!fresh || fresh === meta.content) return false;
  meta.content = fresh;
  return true;
}

/** A request to the API; returns the parsed answer (null for an empty one). Throws ApiError. */
export async function api(method, url, body, options = {}) {
  let answer = await send(method, url, body, options);
  if (answer.status === 403 && method !== "GET" && (await renewCsrf())) answer = await send(method, url, body, options);
  if (answer.status === 204) return null;
  const text = await answer.text().catch(() => { throw new ApiError(0, t("The connection broke.")); });
  let parsed = null;
  try { parsed = text ? JSON.parse(text) : null; } catch { /* a proxy's page, perhaps */ }
  if (!answer.ok) throw new ApiError(answer.status, parsed?.detail ?? t("The server answered with {status}.", { status: answer.status }), parsed?.reason);
  return parsed;
}
