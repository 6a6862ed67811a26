// What the room of keys asks of the node.

import { batch, call, failureOf, segment, send } from "../client.js";

/** Most keys that one click looks at. */
export const PAGE_KEYS = 1000;
/** Values above this are fetched only when asked for. */
export const EASY_BYTES = 1024 * 1024;

/**
 * Return one page of a level of the tree.
 * @param {string} prefix @param {string} delimiter "" for a plain list. @param {string | null} cursor
 * @param {AbortSignal} [signal]
 * @returns {Promise<{folders?: string[], keys: string[], cursor: string | null}>}
 */
export function level(prefix, delimiter, cursor, signal) {
  const query = new URLSearchParams({ prefix, limit: String(PAGE_KEYS) });
  if (delimiter) query.set("delimiter", delimiter);
  if (cursor) query.set("cursor", cursor);
  return call(`kv/scan?${query}`, { signal });
}

/**
 * @typedef {object} Found
 * @property {string} key
 * @property {Uint8Array | null} bytes The value; null where it is long and was not asked for.
 * @property {string} version
 * @property {number | null} ttl Seconds; null for ever.
 * @property {number} length Of the value, in bytes.
 * @property {number | null} stored What it takes up in the store; null where that is not told.
 */

/**
 * Return a key with its value; null where it does not exist.
 * @param {string} key @param {boolean} [whole] Whether a long value is fetched too.
 * @returns {Promise<Found | null>}
 */
export async function read(key, whole = false) {
  const [ttl, usage, strlen] = await batch([
    { command: "kv.ttl", payload: { key } },
    { command: "memory.usage", payload: { key } },
    { command: "kv.strlen", payload: { key } },
  ]);
  const length = strlen.success ? strlen.payload.length : 0;
  const isLong = length > EASY_BYTES && !whole;
  const method = isLong ? "HEAD" : "GET";
  const answer = await send(`raw/${segment(key)}`, { method });
  if (answer.status === 404) return null;
  if (!answer.ok) throw await failureOf(answer);
  const bytes = isLong ? null : new Uint8Array(await answer.arrayBuffer());
  return {
    key,
    bytes,
    version: (answer.headers.get("ETag") ?? "").replaceAll('"', ""),
    ttl: ttl.success ? ttl.payload.ttl : null,
    length: bytes ? bytes.length : length,
    stored: usage.success ? usage.payload.bytes : null,
  };
}

/**
 * Write a text where the key still has the version that was shown; tell whether it was written.
 * @param {string} key @param {string} value @param {string | 0} version 0 for a key that is not there.
 * @param {number | null} ttl Seconds; null leaves the deadline as it is.
 */
export async function write(key, value, version, ttl) {
  const deadline = ttl === null ? { keepttl: version !== 0 } : { ttl };
  const body = { key, value, if_version: version, ...deadline };
  return (await call("kv/set", { method: "POST", body })).written;
}

/** Delete a key that still has a version; tell whether it had. @param {string} key @param {string} version */
export async function remove(key, version) {
  const answer = await send(`raw/${segment(key)}`, { method: "DELETE", headers: { "If-Match": `"${version}"` } });
  if (answer.status === 412) return false;
  if (!answer.ok) throw await failureOf(answer);
  return true;
}

/** Delete these keys, and return how many were there. @param {string[]} keys */
export async function removeAll(keys) {
  return (await call("kv/mdel", { method: "POST", body: { keys } })).deleted;
}
