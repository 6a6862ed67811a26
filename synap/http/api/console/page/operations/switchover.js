// Moving the master to a replica. The page reaches its own node alone, so it does this node's part, and
// says what is done at the other one. `synap switchover` does it all in one go.

import { html, useState } from "../vendor/preact.js";
import { call } from "../client.js";
import { number } from "../format.js";
import { useTask } from "../polling.js";
import { Empty, Trouble, TypedConfirmation } from "../parts.js";

/** How long writes wait for the steps between; the pause ends by itself. */
const PAUSE_SECONDS = 30;
const WAIT_MS = 5000;

const post = (action, body) => call(`replication/${action}`, { method: "POST", body });

/** @param {{facts: any, hasLogin: boolean, hasAgent: boolean}} props */
export function Switchover({ facts, hasLogin, hasAgent }) {
  const [heir, setHeir] = useState("");
  if (facts.role !== "master") return null;
  const replicas = facts.replicas.filter(({ status }) => status === "in_sync");
  const chosen = replicas.find(({ id }) => id === heir) ?? replicas[0];
  return html`<section class="box" aria-label="Switchover">
    <h2>Move the master to a replica</h2>
    ${!chosen && html`<${Empty}>No replica is in sync, so none can take over without a loss.</${Empty}>`}
    ${chosen && html`
      <label>New master <select value=${chosen.id} onChange=${(event) => setHeir(event.target.value)}>
        ${replicas.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}
      </select></label>
      <p>In one go, without a loss, writes away for moments, from a shell ${hasAgent ? "that has this node's configuration" : "that reaches all nodes"}:</p>
      <pre class="command" tabindex="0" aria-label="Command">${hasAgent ? agentCommandOf(chosen) : commandOf(facts, chosen, hasLogin)}</pre>
      ${!hasAgent && html`<${ByHand} key=${chosen.id} facts=${facts} heir=${chosen} />`}`}
  </section>`;
}

/** Return a word as a shell takes it: names and URLs come from other nodes. @param {string} word */
const quoted = (word) => (/^[\w.:/@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function commandOf(facts, heir, hasLogin) {
  const urls = [facts.url, ...(hasLogin ? facts.replicas.map(({ url }) => url) : [])].filter(Boolean);
  const user = hasLogin ? " --user NAME" : "";
  const words = [`synap${user} switchover`, `--to=${quoted(heir.id)}`, ...urls.map((url) => `--url=${quoted(url)}`)];
  return words.join(" \\\n  ");
}

/** Where an agent runs, it moves the master. */
const agentCommandOf = (heir) => `synap failover switchover --to=${quoted(heir.id)} --config FILE`;

/** By hand: this node hands over, and the other one is promoted in its own console. */
function ByHand({ facts, heir }) {
  const task = useTask();
  const [isOver, setOver] = useState(false);
  const go = () => task.run(async () => {
    await handOver(heir);
    setOver(true);
  });
  return html`<details>
    <summary>By hand, from console to console</summary>
    <ol class="steps">
      <li>Open ${heir.id}'s console${heir.url ? html`: ${heir.url}` : ""}, log in, and go to Operations, so that the last step takes moments.</li>
      <li>Here: have this node hold its writes, wait for ${heir.id} to have them all, and step down.
        From then on nobody takes writes until ${heir.id} is promoted.</li>
      <li>There: “Promote”.</li>
      <li>Here, and at each other replica: “Follow” ${heir.id}.</li>
    </ol>
    <${Trouble} failure=${task.failure} />
    ${isOver
      ? html`<p role="status"><strong>${facts.node_id} has stepped down.</strong> Promote ${heir.id} now. If that can't be done, “Promote” here takes the role back.</p>`
      : html`<${TypedConfirmation} wanted=${heir.id} busy=${task.busy} onConfirm=${go}
          what="To step down for it, type its name:" label=${task.busy ? "Under way …" : "Step down"} />`}
  </details>`;
}

/** Pause, wait until the heir has all, step down; where it has not in time, writes go on. */
async function handOver(heir) {
  const { offset } = await post("pause", { seconds: PAUSE_SECONDS });
  try {
    const until = Date.now() + WAIT_MS;
    for (;;) {
      const { replicas } = await call("health/replication");
      const held = replicas.find(({ id }) => id === heir.id)?.offset ?? 0;
      if (held >= offset) break;
      if (Date.now() > until) {
        throw new Error(`${heir.id} has offset ${number(held)} of ${number(offset)} after 5 s. Nothing was changed; writes go on.`);
      }
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    await post("step-down", { offset, master_url: heir.url });
  } catch (failure) {
    await post("resume").catch(() => {});
    throw failure;
  }
}
