// One member of the cluster.

import { html } from "../vendor/preact.js";
import { ago, counted, number, span } from "../format.js";
import { Badge, Facts } from "../parts.js";
import { kindOf, meaningOf } from "./members.js";

/** @param {{member: import("./members.js").Member}} props */
export function Card({ member }) {
  const { name, role, state, isOwn, note, url } = member;
  return html`<article class="card ${kindOf(state)}" aria-label=${name}>
    <header>
      <h2>${name}</h2>
      <span>${role}${isOwn ? ", this node" : ""}</span>
    </header>
    <p><${Badge} kind=${kindOf(state)}>${state}</${Badge}> ${meaningOf(state)}</p>
    ${note && html`<p class="note">${note}</p>`}
    <${Facts} rows=${[...common(member), ...(isOwn ? own(member) : [])]} />
    ${!isOwn && url && html`<p class="soft">Its own console: <${ConsoleLink} url=${url} /></p>`}
  </article>`;
}

/** A way to another node's page; credentials do not go with it. Other nodes say where they are. */
function ConsoleLink({ url }) {
  if (!/^https?:\/\//.test(url)) return html`<span>${url}</span>`;
  return html`<a href=${`${url.replace(/\/+$/, "")}/console`} target="_blank" rel="noopener noreferrer">${url}</a>`;
}

function common({ role, epoch, offset, lag_entries, lag_ms, contact_ms, open, upstream }) {
  return [
    upstream && ["Follows", upstream],
    epoch !== null && ["Epoch", number(epoch)],
    ["Offset", number(offset)],
    role === "replica" && ["Lag", lag_entries === null ? "unknown" : `${counted(lag_entries, "entry", "entries")}, ${span(lag_ms)}`],
    contact_ms !== null && ["Last contact", `${span(contact_ms)} ago`],
    open === true && ["Replication", "open to whoever reaches its ports"],
  ];
}

function own({ version, position, snapshot_at_ms, lease_ms }) {
  return [
    ["Position", position],
    ["Newest snapshot", snapshot_at_ms ? ago(snapshot_at_ms) : "none"],
    lease_ms !== null && ["Lease", `${span(lease_ms)} left`],
    ["Version", version],
  ];
}

/** The way from the master to a replica, and how it stands. */
export function LinkLine({ member }) {
  return html`<span class="link ${kindOf(member.state)}" aria-hidden="true"></span>`;
}
