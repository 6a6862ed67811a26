// Changes of this node's role. What would be lost is what the node itself says, before anything is done.

import { html, useState } from "../vendor/preact.js";
import { call, LONG_MS } from "../client.js";
import { useTask } from "../polling.js";
import { Trouble, TypedConfirmation } from "../parts.js";

const post = (path, body) => call(path, { method: "POST", body, timeout: LONG_MS });

/**
 * Ask for a change of role; where the node says that something would be lost, show that and have its
 * name typed.
 */
function RoleChange({ name, title, node, ask, onDone, label, children, disabled }) {
  const task = useTask();
  const [done, setDone] = useState(null);
  const go = (force) => task.run(async () => {
    setDone(null);
    setDone(await ask(force));
    onDone();
  });
  const wantsForce = task.failure?.reason === "force_wanted";
  const submit = (event) => {
    event.preventDefault();
    go(false);
  };
  return html`<section class="box" aria-label=${name}>
    <h2>${title}</h2>
    <form autocomplete="off" onSubmit=${submit}>
      ${children}
      <button disabled=${task.busy || disabled}>${task.busy ? "Under way …" : label}</button>
    </form>
    ${wantsForce
      ? html`<div class="trouble" role="alert">
          <p><strong>The node refuses, because this would lose something:</strong></p>
          <ul class="losses">${lossesOf(task.failure.message).map((each) => html`<li key=${each}>${each}</li>`)}</ul>
          <${TypedConfirmation} wanted=${node} busy=${task.busy} onConfirm=${() => go(true)}
            what="To do it all the same, type the node's name:" label=${`${label}, and lose it`} />
        </div>`
      : html`<${Trouble} failure=${task.failure} />`}
    ${done && html`<p role="status">Done: ${done.role}, epoch ${done.epoch}, offset ${done.offset}.
      ${done.lost.length > 0 && html`${" "}Lost: ${done.lost.join("; ")}.`}</p>`}
  </section>`;
}

/** Return the parts of what the node says; what to type at a shell is left out. */
function lossesOf(message) {
  return message.split(/; (?!use )/).map((each) => each.replace(/; use --force.*$/s, ""));
}

/** @param {{facts: any, onDone: () => void}} props */
export function Promotion({ facts, onDone }) {
  if (facts.role === "master" && !facts.read_only) return null;
  const ask = (force) => post("replication/promote", { force });
  return html`<${RoleChange} name="Promote" title="Make this node the master" node=${facts.node_id} ask=${ask}
    onDone=${onDone} label="Promote">
    <p>For when the master is lost, or stepped down for this node. Here: ${facts.node_id}, a ${facts.role}, epoch ${facts.epoch}.</p>
  </${RoleChange}>`;
}

export function Following({ facts, onDone }) {
  const [address, setAddress] = useState("");
  const ask = (force) => post("replication/follow", { master_address: address.trim(), force });
  return html`<${RoleChange} name="Follow" title="Follow a master" node=${facts.node_id} ask=${ask} onDone=${onDone}
    label="Follow">
    <p>Makes this node a replica of another one.${facts.master_address ? ` It follows ${facts.master_address} now.` : ""}</p>
    <label>The master's <code>replica_listen_address</code>
      <input required placeholder="host:15501" spellcheck=${false} value=${address}
        onInput=${(event) => setAddress(event.target.value)} /></label>
  </${RoleChange}>`;
}

/** A diverged replica's way back; its own data is put aside, which a person decides. */
export function Acceptance({ facts, onDone }) {
  const task = useTask();
  const [directory, setDirectory] = useState("");
  if (facts.status !== "diverged" && !directory) return null;
  const go = () => task.run(async () => {
    setDirectory((await post("replication/accept")).directory);
    onDone();
  });
  return html`<section class="box" aria-label="Accept">
    <h2>Take the master's data</h2>
    <p>This node has entries that its master lacks, and follows nobody until somebody decides. What it says of them:</p>
    <p class="note">${facts.note || "nothing"}</p>
    <${Trouble} failure=${task.failure} />
    ${directory
      ? html`<p role="status">Its own data goes to <code>${directory}</code>.</p>`
      : html`<${TypedConfirmation} wanted=${facts.node_id} busy=${task.busy} onConfirm=${go}
          what="Its own data is put aside, and the master's taken. To do that, type the node's name:" label="Accept" />`}
  </section>`;
}
