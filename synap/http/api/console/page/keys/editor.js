// Editing a text: what would change is shown, and a change of somebody else's is never overwritten.

import { html, useState } from "../vendor/preact.js";
import { useTask } from "../polling.js";
import { Trouble } from "../parts.js";
import { read, write } from "./api.js";
import { difference, textOf } from "./text.js";

/**
 * @param {{found: import("./api.js").Found, onFresh: (found: import("./api.js").Found) => void,
 *   onGone: () => void, onDone: () => void, onCancel: () => void}} props `onFresh` takes what the key
 *   has become meanwhile.
 */
export function Editor({ found, onFresh, onGone, onDone, onCancel }) {
  const before = textOf(found.bytes) ?? "";
  const [text, setText] = useState(before);
  const [ttl, setTtl] = useState("");
  const [isReview, setReview] = useState(false);
  const [conflict, setConflict] = useState(false);
  const task = useTask();
  const save = () => task.run(async () => {
    if (await write(found.key, text, found.version, ttl === "" ? null : Number(ttl))) {
      onDone();
      return;
    }
    const fresh = await read(found.key, true);
    if (!fresh) onGone();
    else {
      setConflict(true);
      onFresh(fresh);
    }
  });
  const submit = (event) => {
    event.preventDefault();
    if (isReview) save();
    else setReview(true);
  };
  return html`<form class="editor" autocomplete="off" onSubmit=${submit}>
    ${conflict && html`<p class="trouble" role="alert">Somebody changed this key meanwhile: it has version ${found.version} now.
      Nothing was overwritten. Below is what your text would change of the new value.</p>`}
    ${isReview
      ? html`<${Difference} before=${before} after=${text} />`
      : html`<label>Value <textarea rows="14" spellcheck=${false} value=${text}
          onInput=${(event) => setText(event.target.value)}></textarea></label>
        <label>Expires in seconds <input type="number" min="1" value=${ttl} placeholder="as it is"
          onInput=${(event) => setTtl(event.target.value)} /></label>`}
    <${Trouble} failure=${task.failure} />
    <p class="tools">
      <button class="main" disabled=${task.busy}>${isReview ? (conflict ? "Save over the new value" : "Save") : "Review"}</button>
      ${isReview && html`<button type="button" onClick=${() => setReview(false)}>Edit on</button>`}
      ${conflict && html`<button type="button" onClick=${() => { setText(before); setConflict(false); setReview(false); }}>Take the new value</button>`}
      <button type="button" onClick=${onCancel}>Cancel</button>
    </p>
  </form>`;
}

/** Of lines that stay, so many are shown around those that change. */
const AROUND = 3;

function Difference({ before, after }) {
  if (before === after) return html`<p class="empty">The value stays as it is.</p>`;
  const lines = difference(before, after);
  const near = lines.map((_, at) => lines.slice(Math.max(0, at - AROUND), at + AROUND + 1).some(({ kind }) => kind !== "kept"));
  return html`<div class="difference" role="group" aria-label="What changes" tabindex="0">
    ${lines.map(({ kind, text }, at) => near[at]
      ? html`<div class=${kind}><span class="sign">${SIGNS[kind]}</span><span>${text || " "}</span></div>`
      : near[at - 1] || at === 0 ? html`<div class="soft">…</div>` : null)}
  </div>`;
}

const SIGNS = { kept: " ", gone: "−", new: "+" };
