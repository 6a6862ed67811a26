// What an operator does with this node, and lists of what it knows.

import { html } from "../vendor/preact.js";
import { call } from "../client.js";
import { usePolled } from "../polling.js";
import { Trouble } from "../parts.js";
import { Backup, Snapshot } from "./copies.js";
import { Lists } from "./lists.js";
import { Acceptance, Following, Promotion } from "./roles.js";
import { Switchover } from "./switchover.js";

const LOOK_MS = 2000;

async function look() {
  const [replication, cluster] = await Promise.all([call("health/replication"), call("cluster")]);
  return { replication, agent: cluster.failover };
}

/** @param {{settings: {write: boolean, login: boolean}}} props */
export function OperationsRoom({ settings }) {
  const { value, failure, again } = usePolled(look, LOOK_MS);
  const facts = value?.replication;
  const hasAgent = Boolean(value?.agent && !value.agent.is_paused);
  return html`
    <${Trouble} failure=${failure} />
    ${!settings.write && html`<p class="soft">Actions that change something are not shown: <code>console.write</code> is false on this node. The command line and the API have them.</p>`}
    <div class="actions">
      <${Backup} facts=${facts} />
      ${settings.write && html`<${Snapshot} />`}
      ${settings.write && facts && html`
        <${Acceptance} facts=${facts} onDone=${again} />
        <${Switchover} facts=${facts} hasLogin=${settings.login} hasAgent=${hasAgent} />
        ${hasAgent && html`<section class="box" aria-label="Roles"><h2>Roles</h2><p>The fail-over agent decides who is master. To change roles by hand, stop it first: <code>synap failover pause</code>.</p></section>`}
        ${!hasAgent && html`
          <${Promotion} facts=${facts} onDone=${again} />
          <${Following} facts=${facts} onDone=${again} />`}`}
    </div>
    <${Lists} />`;
}
