// One member of the cluster.

import { html } from "../vendor/preact.js";
import { ago, counted, number, span } from "../format.js";
import { Badge, Facts } from "../parts.js";
import { kindOf, meaningOf } from "./members.js";

/** @param {{member: import("./members.js").Member}} props */
export function Card({ member }) {
  const { name, role, state, isOwn, note, url, read_only } = member;
  return html`<article class="card ${kindOf(state)}" aria-label=${name}>
    <header>
      <h2>${name}</h2>
      <span>${role}${isOwn ? ", this node" : ""}</span>
    </header>
    <p><${Badge} kind=${kindOf(state)}>${state}</${Badge}> ${meaningOf(state)}</p>
    ${read_only && read_only !== state && html`<p><${Badge} kind=${kindOf(read_only)}>${read_only}</${Badge}> ${meaningOf(read_only)}</p>`}
    ${note && html`<p class="note">${note}</p>`}
    <${Facts} rows=${factsOf(member)} />
    ${!isOwn && url && html`<p class="soft">Its own console: <${ConsoleLink} url=${url} /></p>`}
  </article>`;
}

/** A way to another node's page; credentials do not go with it. Other nodes say where they are. */
function ConsoleLink({ url }) {
  if (!/^https?:\/\//.test(url)) return html`<span>${url}</span>`;
  return html`<a href=${`${url.replace(/\/+$/, "")}/console`} target="_blank" rel="noopener noreferrer">${url}</a>`;
}

/** What is known of a node; others tell these once they are heard, and programs of before not at all. */
function factsOf(member) {
  const { role, epoch, offset, lag_entries, lag_ms, contact_ms, open, upstream, version, position, snapshot_at_ms, lease_ms } = member;
  const lag = lag_entries === null ? "unknown" : `${counted(lag_entries, "entry", "entries")}, ${span(lag_ms)}`;
  return [
    upstream && ["Follows", upstream],
    epoch !== null && ["Epoch", number(epoch)],
    ["Offset", number(offset)],
    role === "replica" && ["Lag", lag],
    contact_ms !== null && ["Last contact", `${span(contact_ms)} ago`],
    position && ["Position", position],
    ["Newest snapshot", snapshot_at_ms ? ago(snapshot_at_ms) : version ? "none" : "unknown"],
    lease_ms !== null && ["Lease", `${span(lease_ms)} left`],
    ["Version", version || "unknown"],
    open === true && ["Replication", "open to whoever reaches its ports"],
  ];
}

/** The way from the master to a replica, and how it stands. */
export function LinkLine({ member }) {
  return html`<span class="link ${kindOf(member.state)}" aria-hidden="true"></span>`;
}
