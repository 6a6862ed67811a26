// "May the master die now?": where its entries are, as far as this node knows.

import { html } from "../vendor/preact.js";
import { counted, number } from "../format.js";
import { Badge } from "../parts.js";

const GONE = new Set(["disconnected", "diverged", "connecting"]);

/**
 * Return how many entries of the master's fewer than 1, 2, … replicas hold. Pure.
 *
 * By what the master said of each replica at one moment: its own offset, which is asked for later, would
 * make entries that were written since look as if no replica had them.
 * @param {{status: string, offset: number, lag_entries: number}[]} replicas
 * @returns {{replicas: number, offset: number, missing: number}[]}
 */
export function copies(replicas) {
  return replicas
    .filter(({ status }) => !GONE.has(status))
    .sort((one, other) => one.lag_entries - other.lag_entries)
    .map(({ offset, lag_entries }, at) => ({ replicas: at + 1, offset, missing: lag_entries }));
}

/**
 * Return the answer. Pure.
 * @param {any} cluster @param {any} replication
 * @returns {{kind: string, word: string, why: string}}
 */
export function answer(cluster, replication) {
  const { role, min_replicas_to_write: needed = 0, replicas = [] } = replication;
  if (role === "standalone") {
    return { kind: "warn", word: "No", why: "This node stands alone: nothing else has its entries." };
  }
  if (role === "replica") return ofReplica(cluster, replication);
  const held = copies(replicas);
  if (!held.length) {
    return { kind: "bad", word: "No", why: "No replica is connected: this node alone has its newest entries." };
  }
  const { missing } = held[0];
  const who = needed
    ? `Writes are acknowledged when ${counted(needed, "replica holds", "replicas hold")} them, so no acknowledged write would be lost.`
    : "No write waits for them (min_replicas_to_write is 0): those of the last moment may be on the master alone.";
  if (!missing) return { kind: "good", word: "Yes", why: `A replica has all entries that it was sent. ${who}` };
  if (needed && held.length >= needed) {
    return { kind: "good", word: "Yes", why: `${who} ${counted(missing, "entry under way is", "entries under way are")} on no replica yet.` };
  }
  return { kind: "bad", word: "No", why: `${counted(missing, "entry is", "entries are")} on the master alone, and would be lost.` };
}

function ofReplica(cluster, { lag_entries: lag, status }) {
  if (status === "disconnected" || status === "connecting") {
    const held = lag ? `it lacks ${counted(lag, "entry", "entries")} that it heard of` : "it has all that it heard of";
    return { kind: "bad", word: "This node can't tell", why: `It does not hear its master (${status}): ${held}, and can't know what came since. Before you promote it, have synap status show what the others hold.` };
  }
  const own = status === "in_sync" && lag === 0;
  return {
    kind: own ? "good" : "warn",
    word: own ? "Yes, as far as this node knows" : "This node can't tell",
    why: own
      ? "It has all that it heard of its master's. What the other replicas have only the master knows."
      : `It lacks ${counted(lag, "entry", "entries")} of its master's (${status}). Ask the master's console what others have.`,
  };
}

export function MasterLoss({ cluster, replication }) {
  const { kind, word, why } = answer(cluster, replication);
  const held = replication.role === "master" ? copies(replication.replicas ?? []) : [];
  return html`<section class="loss" aria-label="May the master die now?">
    <p class="question"><strong>May the master die now?</strong> <${Badge} kind=${kind}>${word}</${Badge}> ${why}</p>
    ${held.length > 0 && html`<table class="narrow">
      <caption class="soft">Where the ${number(held[0].offset + held[0].missing)} entries are</caption>
      <thead><tr><th scope="col">On at least</th><th scope="col">Up to offset</th><th scope="col">Not yet</th></tr></thead>
      <tbody>${held.map(({ replicas, offset, missing }) => html`<tr key=${replicas}>
        <td>${counted(replicas, "replica")}</td><td>${number(offset)}</td>
        <td>${missing ? counted(missing, "entry", "entries") : "none"}</td>
      </tr>`)}</tbody>
    </table>`}
  </section>`;
}
