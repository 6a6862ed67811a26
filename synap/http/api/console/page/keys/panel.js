// One key: its value in three forms, what is known of it, and what may be done with it.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { bytes, shownKey, span } from "../format.js";
import { useTask } from "../polling.js";
import { Dialog, Facts, Trouble } from "../parts.js";
import { read, remove } from "./api.js";
import { Editor } from "./editor.js";
import { ValueView } from "./value.js";
import { textOf } from "./text.js";

/** @param {{name: string, canWrite: boolean, onGone: () => void}} props */
export function KeyPanel({ name, canWrite, onGone }) {
  const [found, setFound] = useState(undefined);
  const [mode, setMode] = useState("");
  const task = useTask();
  const load = (whole = false) => task.run(async () => setFound(await read(name, whole)));
  const place = useRef(null);
  useEffect(() => {
    load();
    place.current.scrollIntoView({ block: "nearest" });
  }, [name]);
  const gone = () => {
    setMode("");
    setFound(null);
    onGone();
  };
  return html`<section class="panel" ref=${place} aria-label="The chosen key">
    <header>
      <h2 class="name">${shownKey(name)}</h2>
      <a class="button quiet" href="#keys" aria-label="Close">✕</a>
    </header>
    <${Trouble} failure=${task.failure} again=${() => load()} />
    ${found === undefined && !task.failure && html`<p>Loading …</p>`}
    ${found === null && html`<p class="empty">This key does not exist${canWrite ? "" : " any more"}.</p>`}
    ${found && html`<${Known} found=${found} />`}
    ${found && mode === "edit" && html`<${Editor} found=${found} onFresh=${setFound} onGone=${gone}
      onDone=${() => { setMode(""); load(); }} onCancel=${() => setMode("")} />`}
    ${found && mode !== "edit" && html`
      <p class="tools">
        <button disabled=${task.busy} onClick=${() => load()}>Read again</button>
        ${canWrite && html`<${Changes} found=${found} onMode=${setMode} />`}
      </p>
      <${ValueView} found=${found} onWhole=${() => load(true)} />`}
    ${found && mode === "delete" && html`<${Deletion} found=${found} onClose=${() => setMode("")}
      onGone=${gone} onFresh=${setFound} />`}
  </section>`;
}

function Changes({ found, onMode }) {
  const isText = found.bytes && textOf(found.bytes) !== null;
  return html`
    <button disabled=${!isText} title=${isText ? "" : "Only text can be edited here"}
      onClick=${() => onMode("edit")}>Edit</button>
    <button class="danger" onClick=${() => onMode("delete")}>Delete …</button>`;
}

function Known({ found: { version, ttl, length, stored } }) {
  return html`<${Facts} rows=${[
    ["Version", html`<code>${version}</code>`],
    ["Expires", ttl === null ? "never" : `in ${span(ttl * 1000)}`],
    ["Size", bytes(length)],
    ["In the store", stored === null ? "not told" : bytes(stored)],
  ]} />`;
}

function Deletion({ found, onClose, onGone, onFresh }) {
  const task = useTask();
  const [changed, setChanged] = useState(false);
  const go = () => task.run(async () => {
    if (await remove(found.key, found.version)) {
      onGone();
      return;
    }
    const fresh = await read(found.key);
    if (!fresh) onGone();
    else {
      setChanged(true);
      onFresh(fresh);
    }
  });
  return html`<${Dialog} title="Delete this key?" onClose=${onClose}>
    <p class="name">${shownKey(found.key)}</p>
    ${changed && html`<p class="trouble" role="alert">It was changed meanwhile and is not deleted. It now has version ${found.version}.</p>`}
    <${Trouble} failure=${task.failure} />
    <p class="tools">
      <button class="danger" disabled=${task.busy} onClick=${go}>Delete version ${found.version}</button>
      <button onClick=${onClose}>Keep it</button>
    </p>
  </${Dialog}>`;
}
