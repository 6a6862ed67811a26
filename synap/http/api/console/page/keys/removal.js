// Deleting what begins alike: first what that would be, then exactly that, and no more than a page.

import { html, useEffect, useState } from "../vendor/preact.js";
import { counted, shownKey } from "../format.js";
import { useTask } from "../polling.js";
import { Dialog, Empty, Trouble, TypedConfirmation } from "../parts.js";
import { level, removeAll } from "./api.js";

/** @param {{prefix: string, onClose: () => void}} props */
export function Removal({ prefix, onClose }) {
  const [found, setFound] = useState(null);
  const [deleted, setDeleted] = useState(0);
  const task = useTask();
  const look = async () => setFound(await level(prefix, "", null));
  useEffect(() => {
    task.run(look);
  }, []);
  const go = () => task.run(async () => {
    const gone = await removeAll(found.keys);
    setDeleted((before) => before + gone);
    await look();
  });
  return html`<${Dialog} title="Delete all of this" onClose=${onClose}>
    <p>Keys that begin with <code class="name">${shownKey(prefix)}</code></p>
    ${deleted > 0 && html`<p role="status">${counted(deleted, "key")} deleted.</p>`}
    <${Trouble} failure=${task.failure} />
    ${!found && !task.failure && html`<p>Looking …</p>`}
    ${found && !found.keys.length && html`<${Empty}>There are none${deleted ? " left" : ""}.</${Empty}>`}
    ${found && found.keys.length > 0 && html`
      <p>A try-out: ${found.cursor ? `the first ${counted(found.keys.length, "key")} of more` : counted(found.keys.length, "key")} would be deleted.</p>
      <ul class="sample" tabindex="0" aria-label="What would be deleted">${found.keys.map((key) => html`<li key=${key}>${shownKey(key)}</li>`)}</ul>
      <${TypedConfirmation} key=${deleted} wanted=${String(found.keys.length)} busy=${task.busy} onConfirm=${go}
        what="To delete exactly these, type their number:" label=${`Delete ${counted(found.keys.length, "key")}`} />`}
  </${Dialog}>`;
}
