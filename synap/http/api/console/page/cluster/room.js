// The cluster as this node knows it: a card for each member, and whether the master may be lost.

import { html, useRef } from "../vendor/preact.js";
import { call } from "../client.js";
import { usePolled } from "../polling.js";
import { ago } from "../format.js";
import { Badge, Trouble } from "../parts.js";
import { Card, LinkLine } from "./card.js";
import { MasterLoss } from "./master_loss.js";
import { membersOf } from "./members.js";

const LOOK_MS = 1000;

async function look() {
  const [cluster, replication] = await Promise.all([call("cluster"), call("health/replication")]);
  return { cluster, replication };
}

export function ClusterRoom() {
  const { value, at, failure } = usePolled(look, LOOK_MS);
  const first = useRef(null);
  if (!value) return failure ? html`<${Trouble} failure=${failure} />` : html`<p>Loading …</p>`;
  const { cluster, replication } = value;
  first.current ??= cluster.node_id;
  const isMixed = cluster.node_id !== first.current || replication.node_id !== first.current;
  const { masters, replicas } = membersOf(cluster, replication);
  return html`<div class=${failure ? "stale" : ""}>
    <${Trouble} failure=${failure}><p>What is shown is as it was ${ago(at)}. The page goes on by itself.</p></${Trouble}>
    ${isMixed && html`<p class="note" role="alert">Answers come from more than one node, as through a balancer: this page shows now one, now another. Open the console at a node's own address.</p>`}
    <${MasterLoss} cluster=${cluster} replication=${replication} />
    <${Agent} failover=${cluster.failover} />
    <div class="members">
      <div class="masters">
        ${masters.map((member) => html`<${Card} key=${member.key} member=${member} />`)}
        ${!masters.length && html`<p class="card ghost">No master is known to this node.</p>`}
      </div>
      ${replicas.length > 0 && html`<ul class="replicas" aria-label="Replicas">
        ${replicas.map((member) => html`<li key=${member.key}>
          <${LinkLine} member=${member} />
          <${Card} member=${member} />
        </li>`)}
      </ul>`}
    </div>
    ${cluster.unknown && html`<p class="soft">This node does not know the ${cluster.unknown}.</p>`}
  </div>`;
}

/** What the agent of fail-over says, where there is one. */
function Agent({ failover }) {
  if (!failover) return null;
  const { leader, epoch, is_paused, quorum, voters, next, would_lose, note } = failover;
  return html`<section class="agent" aria-label="Fail-over">
    <p>
      <${Badge} kind=${leader ? "good" : "bad"}>${leader ? `${leader} leads` : "nobody leads"}</${Badge}>
      ${" "}epoch ${epoch}; ${voters.length ? `voters: ${voters.join(", ")}` : "no voters"}; quorum ${quorum}.
      ${is_paused && html`${" "}<${Badge} kind="warn">paused for maintenance</${Badge}>`}
    </p>
    ${next && html`<p class="soft">${next} would take ${leader ? `${leader}'s` : "its"} place${would_lose ? `, and lack ${would_lose} entries` : ""}.</p>`}
    ${note && html`<p class="note">${note}</p>`}
  </section>`;
}
