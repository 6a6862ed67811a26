// Small parts that all rooms use.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { cut } from "./format.js";

/** A message may hold what another node said. */
const MESSAGE_CHARACTERS = 1000;

/** What went wrong, with what may help; `again` asks anew where the page does not by itself. */
export function Trouble({ failure, again, children }) {
  if (!failure) return null;
  return html`<div class="trouble" role="alert">
    <p>${cut(String(failure.message), MESSAGE_CHARACTERS)}</p>
    ${failure.facts?.master && html`<p>Writes go to its master: ${cut(String(failure.facts.master), MESSAGE_CHARACTERS)}</p>`}
    ${hintOf(failure) && html`<p class="soft">${hintOf(failure)}</p>`}
    ${again && html`<p><button type="button" onClick=${again}>Try again</button></p>`}
    ${children}
  </div>`;
}

const HINTS = {
  disk_full: "The node's disk is full. Reads go on; writes work again by themselves when there is room.",
  memory_limit: "The store is at kv_store.max_memory_mb. Delete keys, or raise the limit.",
  no_answer: "It may be starting again, or the way to it is cut.",
  forbidden: "Log in as somebody who may, or ask for the permission that the message names.",
  writes_paused: "A switchover is under way: try again in a few seconds.",
  no_lease: "The cluster has no master at the moment; one is elected by itself.",
};

/** @param {{status: number, reason: string}} failure */
function hintOf({ status, reason }) {
  return HINTS[reason] ?? (status === 403 ? HINTS.forbidden : undefined);
}

/** A word with a colour; the word says it all, the colour helps. */
export function Badge({ kind, children }) {
  return html`<span class="badge ${kind}">${children}</span>`;
}

/** Names and values. */
export function Facts({ rows }) {
  return html`<dl class="facts">
    ${rows.filter(Boolean).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/** Nothing is there, and why. */
export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** A window over the page, which Escape closes. */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} aria-label=${title} onClose=${onClose}>
    <header>
      <h2>${title}</h2>
      <button type="button" class="quiet" aria-label="Close" onClick=${() => dialog.current.close()}>✕</button>
    </header>
    ${children}
  </dialog>`;
}

/**
 * A button that works only when a text was typed, for what can't be undone.
 * @param {{wanted: string, what: string, label: string, busy: boolean, onConfirm: () => void}} props
 */
export function TypedConfirmation({ wanted, what, label, busy, onConfirm }) {
  const [typed, setTyped] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (typed === wanted) onConfirm();
  };
  return html`<form class="typed" autocomplete="off" onSubmit=${submit}>
    <label>${what} <code>${wanted}</code>
      <input value=${typed} onInput=${(event) => setTyped(event.target.value)} />
    </label>
    <button class="danger" disabled=${busy || typed !== wanted}>${label}</button>
  </form>`;
}

/** Choices of which one is chosen. */
export function Choice({ label, value, options, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(([name, text]) => html`<button key=${name} type="button"
      aria-pressed=${String(name === value)} onClick=${() => onChange(name)}>${text}</button>`)}
  </div>`;
}
