// Copies of the data: a snapshot on the node's own disk, and a backup that leaves it.

import { html, useState } from "../vendor/preact.js";
import { call, failureOf, LONG_MS, send } from "../client.js";
import { bytes } from "../format.js";
import { useTask } from "../polling.js";
import { Trouble } from "../parts.js";

export function Snapshot() {
  const task = useTask();
  const [done, setDone] = useState(null);
  const go = () => task.run(async () => setDone(await call("snapshot", { method: "POST", timeout: LONG_MS })));
  return html`<section class="box" aria-label="Snapshot">
    <h2>Snapshot</h2>
    <p>Writes all that is in the log to this node's own disk, so that the log may be shortened. Writes go on meanwhile.</p>
    <${Trouble} failure=${task.failure} />
    ${done && !task.busy && html`<p role="status">${done.message}: <code>${done.file}</code></p>`}
    <button disabled=${task.busy} onClick=${go}>${task.busy ? "Taking it …" : "Take a snapshot"}</button>
  </section>`;
}

/** The browser keeps a backup as a file of its own until it is saved. */
export function Backup({ facts }) {
  const task = useTask();
  const [done, setDone] = useState(null);
  const go = () => task.run(async () => setDone(await fetchBackup(facts?.node_id ?? "node")));
  return html`<section class="box" aria-label="Backup">
    <h2>Backup</h2>
    <p>Downloads one consistent image of the store. It holds all data, and the hashes of passwords and keys: keep it as you keep the data.</p>
    <p class="soft">For a large store, and to have it verified: <code>synap backup</code>.</p>
    <${Trouble} failure=${task.failure} />
    ${done && !task.busy && html`<p role="status">${bytes(done.size)}, offset ${done.offset}; its checksum is <code>${done.checksum}</code></p>`}
    <button disabled=${task.busy} onClick=${go}>${task.busy ? "Fetching it …" : "Download a backup"}</button>
  </section>`;
}

async function fetchBackup(node) {
  const answer = await send("backup", { timeout: 0 });
  if (!answer.ok) throw await failureOf(answer);
  const content = await answer.blob();
  const offset = answer.headers.get("X-Synap-Offset") ?? "";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `synap-${node.replace(/[^\w.-]/g, "_")}-${offset}.backup`;
  link.click();
  URL.revokeObjectURL(link.href);
  return { size: content.size, offset, checksum: answer.headers.get("X-Synap-Checksum") ?? "unknown" };
}
