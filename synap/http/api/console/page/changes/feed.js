// Follows the node's change feed, as lines of JSON, and goes on after a break where it was.

import { failureOf, send } from "../client.js";

const AGAIN_MS = 2000;

/**
 * @typedef {object} Change
 * @property {"set" | "del" | "flush"} op
 * @property {string} [key]
 * @property {string} [value]
 * @property {string} [value_base64]
 * @property {boolean} [truncated]
 * @property {string} [version]
 * @property {number | null} [expires_at_ms]
 * @property {string} [cause]
 */

/**
 * Follow until `signal` ends it.
 * @param {URLSearchParams} filter `prefix`, `key` or `pattern`, and `values`.
 * @param {string | null} from Go on after this position; null for from now on.
 * @param {{onEvent: (event: any) => void, onState: (state: string, failure?: any) => void}} told
 *   `onEvent` gets each line; `onState` gets `live`, `waiting` or `over`.
 * @param {AbortSignal} signal
 */
export async function follow(filter, from, told, signal) {
  let place = from;
  while (!signal.aborted) {
    const query = new URLSearchParams(filter);
    if (place) query.set("from", place);
    try {
      const answer = await send(`watch?${query}`, { headers: { Accept: "application/x-ndjson" }, signal, timeout: 0 });
      if (!answer.ok) throw await failureOf(answer);
      told.onState("live");
      for await (const event of linesOf(answer)) {
        if (event.position) place = event.position;
        told.onEvent(event);
        if (event.event === "reset") place = null;
      }
      told.onState("waiting");
    } catch (failure) {
      if (signal.aborted) return;
      if (failure.status >= 400 && failure.status !== 503) {
        told.onState("over", failure);
        return;
      }
      told.onState("waiting", failure.reason ? failure : undefined);
    }
    await rest(AGAIN_MS, signal);
  }
}

/** Yield the objects of lines as they come. @param {Response} answer */
async function* linesOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (begun + value).split("\n");
    begun = lines.pop() ?? "";
    for (const line of lines) if (line) yield JSON.parse(line);
  }
}

/** @param {number} ms @param {AbortSignal} signal */
function rest(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve(undefined);
    }, { once: true });
  });
}
