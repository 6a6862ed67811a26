// The node's API, as the page asks it. Only its own node: the policy of the page allows no other.
//
// Credentials live in this module's memory, so they end with the tab: no cookie, no storage. The
// browser's own are not sent, and that way it does not ask for any, either. Only where the node wants a
// certificate of whoever connects does the browser have to send that.

const SHORT_MS = 10_000;
/** What a change of role or a snapshot may take. */
export const LONG_MS = 90_000;

/** @type {Record<string, string>} */
let credentials = {};
/** @type {RequestCredentials} */
let browserSends = "same-origin";
/** @type {Set<() => void>} */
const refusals = new Set();

/**
 * An answer that is no success, or none at all.
 * `status` is 0 where nothing answered; `reason` is the API's word for programs.
 */
export class Failure extends Error {
  /** @param {number} status @param {string} reason @param {string} message @param {object} [facts] */
  constructor(status, reason, message, facts = {}) {
    super(message);
    this.status = status;
    this.reason = reason;
    /** @type {any} */
    this.facts = facts;
  }
}

/**
 * Return what the node says of the page, and how it is asked from then on.
 * @returns {Promise<{login: boolean, write: boolean, certificate: boolean, version: string}>}
 */
export async function settingsOfPage() {
  const settings = await call("console/settings.json");
  browserSends = settings.certificate ? "same-origin" : "omit";
  return settings;
}

/** Keep an API key for the calls that follow. @param {string} key */
export function useKey(key) {
  credentials = { Authorization: `Bearer ${key.trim()}` };
}

/** Keep a name and a password for them. @param {string} user @param {string} password */
export function usePassword(user, password) {
  const bytes = new TextEncoder().encode(`${user}:${password}`);
  credentials = { Authorization: `Basic ${btoa(String.fromCharCode(...bytes))}` };
}

/** Forget them. */
export function forget() {
  credentials = {};
}

/** Have `listener` told where the node no longer takes the credentials. @param {() => void} listener */
export function onRefused(listener) {
  refusals.add(listener);
  return () => refusals.delete(listener);
}

/**
 * Send a request and return the answer, whatever its status but 401.
 * @param {string} path From the node's root, without a slash in front.
 * @param {{method?: string, body?: any, headers?: Record<string, string>, signal?: AbortSignal,
 *   timeout?: number}} [options] A body is sent as JSON. Without a timeout one of 10 s; 0 for none.
 * @returns {Promise<Response>}
 */
export async function send(path, { method = "GET", body, headers, signal, timeout = SHORT_MS } = {}) {
  const limits = [signal, timeout ? AbortSignal.timeout(timeout) : undefined].filter(Boolean);
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(path, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { ...type, ...headers, ...credentials },
      credentials: browserSends,
      cache: "no-store",
      redirect: "error",
      signal: limits.length ? AbortSignal.any(/** @type {AbortSignal[]} */ (limits)) : undefined,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, "no_answer", wordsOf(error, timeout));
  }
  if (answer.status === 401) {
    for (const listener of refusals) listener();
    throw new Failure(401, "not_authenticated", "The node does not take these credentials.");
  }
  return answer;
}

/** @param {any} error @param {number} timeout */
function wordsOf(error, timeout) {
  const late = error?.name === "TimeoutError";
  return late ? `The node did not answer within ${timeout / 1000} s.` : "The node does not answer.";
}

/**
 * Return the JSON of an answer.
 * @param {string} path @param {Parameters<typeof send>[1]} [options]
 * @returns {Promise<any>}
 */
export async function call(path, options) {
  const answer = await send(path, options);
  if (!answer.ok) throw await failureOf(answer);
  return answer.json();
}

/** Return what a refusal says, in the words of the node. @param {Response} answer */
export async function failureOf(answer) {
  const text = await answer.text();
  let facts = {};
  try {
    facts = JSON.parse(text);
  } catch {
    facts = {};
  }
  const { reason = "", error = `The node answered ${answer.status}.` } = /** @type {any} */ (facts);
  return new Failure(answer.status, reason, error, facts);
}

/**
 * Carry out commands by name, in one request, and return their envelopes.
 * @param {{command: string, payload: object}[]} commands
 * @returns {Promise<{success: boolean, payload: any, error: string | null}[]>}
 */
export async function batch(commands) {
  const body = { type: "batch", commands };
  return (await call("api/v1/command", { method: "POST", body })).results;
}

/** Return a path's segment for a key. @param {string} key */
export const segment = (key) => encodeURIComponent(key);
