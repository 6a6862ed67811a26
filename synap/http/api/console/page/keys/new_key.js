// A key that is not there yet.

import { html, useState } from "../vendor/preact.js";
import { Failure } from "../client.js";
import { useTask } from "../polling.js";
import { Dialog, Trouble } from "../parts.js";
import { write } from "./api.js";

/** @param {{prefix: string, onClose: () => void, onMade: (key: string) => void}} props */
export function NewKey({ prefix, onClose, onMade }) {
  const [key, setKey] = useState(prefix);
  const [value, setValue] = useState("");
  const [ttl, setTtl] = useState("");
  const task = useTask();
  const submit = (event) => {
    event.preventDefault();
    task.run(async () => {
      if (!(await write(key, value, 0, ttl === "" ? null : Number(ttl)))) {
        throw new Failure(412, "exists", "There is a key of this name already; nothing was changed.");
      }
      onMade(key);
    });
  };
  return html`<${Dialog} title="New key" onClose=${onClose}>
    <form class="editor" autocomplete="off" onSubmit=${submit}>
      <label>Name <input required value=${key} spellcheck=${false} onInput=${(event) => setKey(event.target.value)} /></label>
      <label>Value <textarea rows="8" spellcheck=${false} value=${value} onInput=${(event) => setValue(event.target.value)}></textarea></label>
      <label>Expires in seconds <input type="number" min="1" value=${ttl} placeholder="never" onInput=${(event) => setTtl(event.target.value)} /></label>
      <${Trouble} failure=${task.failure} />
      <p class="tools"><button class="main" disabled=${task.busy}>Write</button></p>
    </form>
  </${Dialog}>`;
}
