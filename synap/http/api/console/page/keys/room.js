// The keys as a tree, and the one that is chosen.

import { html, useEffect, useState } from "../vendor/preact.js";
import { shownKey } from "../format.js";
import { Trouble } from "../parts.js";
import { usePage } from "./page.js";
import { Removal } from "./removal.js";
import { Tree } from "./tree.js";
import { KeyPanel } from "./panel.js";
import { NewKey } from "./new_key.js";

/** @param {{settings: {write: boolean}, argument: string}} props `argument` is a key. */
export function KeysRoom({ settings, argument }) {
  const [prefix, setPrefix] = useState("");
  const [delimiter, setDelimiter] = useState(":");
  const [window, setWindow] = useState("");
  const page = usePage(prefix, delimiter);
  useEffect(() => {
    const at = delimiter ? argument.lastIndexOf(delimiter) : -1;
    if (argument && at > 0) setPrefix(argument.slice(0, at + delimiter.length));
    // Only the address that the room began with decides on the level.
  }, []);
  const choose = (key) => {
    location.hash = `#keys/${encodeURIComponent(key)}`;
  };
  const close = () => setWindow("");
  return html`
    <${Where} prefix=${prefix} delimiter=${delimiter} onPrefix=${setPrefix} onDelimiter=${setDelimiter}
      onSame=${page.again} />
    <div class="keys ${argument ? "chosen" : ""}">
      <section class="tree" aria-label="Keys">
        <${Path} prefix=${prefix} delimiter=${delimiter} onPrefix=${setPrefix} />
        ${settings.write && html`<p class="tools">
          <button onClick=${() => setWindow("new")}>New key</button>
          <button class="danger" disabled=${!prefix} onClick=${() => setWindow("removal")}
            title=${prefix ? "" : "Open a folder first"}>Delete all of this …</button>
        </p>`}
        <${Trouble} failure=${page.failure} again=${page.again} />
        <${Tree} page=${page} chosen=${argument} onFolder=${setPrefix} onKey=${choose} />
      </section>
      ${argument && html`<${KeyPanel} key=${argument} name=${argument} canWrite=${settings.write}
        onGone=${page.again} />`}
    </div>
    ${window === "new" && html`<${NewKey} prefix=${prefix} onClose=${close}
      onMade=${(key) => { close(); page.again(); choose(key); }} />`}
    ${window === "removal" && html`<${Removal} prefix=${prefix} onClose=${() => { close(); page.again(); }} />`}`;
}

/** Where to look: typed, and taken when the form is sent, so that typing asks for nothing. */
function Where({ prefix, delimiter, onPrefix, onDelimiter, onSame }) {
  const [typed, setTyped] = useState(prefix);
  const [sign, setSign] = useState(delimiter);
  useEffect(() => setTyped(prefix), [prefix]);
  const submit = (event) => {
    event.preventDefault();
    if (sign === delimiter && typed === prefix) onSame();
    onDelimiter(sign);
    onPrefix(typed);
  };
  return html`<form class="where" role="search" autocomplete="off" onSubmit=${submit}>
    <label class="wide">Begin with <input value=${typed} spellcheck=${false} placeholder="all keys"
      onInput=${(event) => setTyped(event.target.value)} /></label>
    <label>Delimiter <input class="short" value=${sign} maxlength="8" placeholder="none"
      onInput=${(event) => setSign(event.target.value)} /></label>
    <button>Show</button>
  </form>`;
}

/** The folders above, each a way back. */
function Path({ prefix, delimiter, onPrefix }) {
  const parts = delimiter ? prefix.split(delimiter).slice(0, -1) : [];
  return html`<nav class="path" aria-label="Folders above">
    <button class="quiet" aria-current=${prefix ? undefined : "location"} onClick=${() => onPrefix("")}>all keys</button>
    ${parts.map((part, at) => {
      const whole = parts.slice(0, at + 1).join(delimiter) + delimiter;
      return html`<button class="quiet" key=${whole} aria-current=${whole === prefix ? "location" : undefined}
        onClick=${() => onPrefix(whole)}>${shownKey(part) || "(empty)"}${delimiter}</button>`;
    })}
  </nav>`;
}
