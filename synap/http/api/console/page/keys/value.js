// A value as JSON, as text or as hex. Always as a text node: nothing in it is ever markup.

import { html, useState } from "../vendor/preact.js";
import { bytes as shownBytes, cut } from "../format.js";
import { Choice, Empty } from "../parts.js";
import { hexOf, losesDigits, prettyOf, textOf } from "./text.js";

/** What is shown of a long one, until the rest is asked for. */
const SHOWN_CHARACTERS = 100_000;
const SHOWN_HEX_BYTES = 16_384;

/** @param {{found: import("./api.js").Found, onWhole: () => void}} props */
export function ValueView({ found, onWhole }) {
  const [wanted, setWanted] = useState("");
  if (!found.bytes) {
    return html`<p class="empty">${shownBytes(found.length)} are not fetched unless you ask.
      ${" "}<button onClick=${onWhole}>Fetch the value</button></p>`;
  }
  if (!found.bytes.length) return html`<${Empty}>The value is empty.</${Empty}>`;
  const text = textOf(found.bytes);
  const pretty = prettyOf(text);
  const forms = [pretty !== null && ["json", "JSON"], text !== null && ["text", "Text"], ["hex", "Hex"]].filter(Boolean);
  const form = forms.some(([name]) => name === wanted) ? wanted : forms[0][0];
  return html`
    <${Choice} label="Show as" value=${form} options=${forms} onChange=${setWanted} />
    ${form === "json" && losesDigits(text) && html`<p class="soft">It has long numbers, of which a browser may show other last digits: see them as text.</p>`}
    <${Shown} text=${form === "json" ? pretty : form === "text" ? text : hexOf(found.bytes, SHOWN_HEX_BYTES)} />
    ${form === "hex" && found.bytes.length > SHOWN_HEX_BYTES && html`<p class="soft">The first ${shownBytes(SHOWN_HEX_BYTES)} of ${shownBytes(found.bytes.length)}.</p>`}`;
}

function Shown({ text }) {
  const [whole, setWhole] = useState(false);
  const isLong = text.length > SHOWN_CHARACTERS && !whole;
  return html`
    <pre class="value" tabindex="0" aria-label="Value">${isLong ? cut(text, SHOWN_CHARACTERS) : text}</pre>
    ${isLong && html`<button onClick=${() => setWhole(true)}>Show all ${text.length.toLocaleString("en-US")} characters</button>`}`;
}
