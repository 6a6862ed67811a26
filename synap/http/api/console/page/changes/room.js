// The changes as they happen.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { clock, counted, cut, shownKey } from "../format.js";
import { Badge, Empty, Trouble } from "../parts.js";
import { follow } from "./feed.js";

/** Rows that are kept; older ones leave the page. */
const KEPT = 300;
/** However fast changes come, the page is drawn so often. */
const DRAW_MS = 200;
const SHOWN_CHARACTERS = 160;

/** Follow the feed while `isOn`, and keep its newest rows. */
function useFeed(filter, isOn) {
  const [state, setState] = useState({ word: "off", failure: null });
  const [rows, setRows] = useState([]);
  const [count, setCount] = useState(0);
  const place = useRef({ filter, position: null });
  useEffect(() => {
    if (!isOn) {
      setState({ word: "paused", failure: null });
      return undefined;
    }
    if (place.current.filter !== filter) place.current = { filter, position: null };
    setState({ word: "off", failure: null });
    const ending = new AbortController();
    const fresh = [];
    let came = 0;
    const told = {
      onState: (word, failure = null) => setState({ word, failure }),
      onEvent: (event) => {
        if (event.position) place.current.position = event.position;
        const found = rowsOf(event);
        came += found.length;
        fresh.push(...found);
        if (fresh.length > KEPT) fresh.splice(0, fresh.length - KEPT);
      },
    };
    const drawing = setInterval(() => {
      if (!came) return;
      const newest = fresh.splice(0).reverse();
      const more = came;
      came = 0;
      setRows((old) => [...newest, ...old].slice(0, KEPT));
      setCount((old) => old + more);
    }, DRAW_MS);
    follow(filter, place.current.position, told, ending.signal);
    return () => {
      ending.abort();
      clearInterval(drawing);
    };
  }, [filter, isOn]);
  const clear = () => {
    setRows([]);
    setCount(0);
  };
  return { state, rows, count, clear };
}

let numbered = 0;

/** Return the rows of an event. */
function rowsOf(event) {
  if (event.event === "change") {
    return event.changes.map((change) => ({ number: numbered++, time: event.time_ms, ...change }));
  }
  if (event.event !== "reset") return [];
  const why = event.reason === "compacted" ? "the log no longer reaches back to where this page was" : "a fail-over took entries back";
  return [{ number: numbered++, time: Date.now(), op: "reset", note: `Changes are missing here: ${why}.` }];
}

const WAYS = { prefix: "Begins with", key: "Is", pattern: "Fits the pattern" };

function filterOf(way, text, hasValues) {
  const filter = new URLSearchParams({ values: hasValues ? "inline" : "none" });
  if (text) filter.set(way, text);
  return filter;
}

export function ChangesRoom() {
  const [way, setWay] = useState("prefix");
  const [text, setText] = useState("");
  const [hasValues, setHasValues] = useState(true);
  const [filter, setFilter] = useState(() => filterOf("prefix", "", true));
  const [isOn, setOn] = useState(true);
  const { state, rows, count, clear } = useFeed(filter, isOn);
  const submit = (event) => {
    event.preventDefault();
    clear();
    setFilter(filterOf(way, text, hasValues));
    setOn(true);
  };
  return html`
    <form class="where" role="search" autocomplete="off" onSubmit=${submit}>
      <label>Key <select value=${way} onChange=${(event) => setWay(event.target.value)}>
        ${Object.entries(WAYS).map(([name, words]) => html`<option key=${name} value=${name}>${words.toLowerCase()}</option>`)}
      </select></label>
      <label class="wide"><span class="hidden">The text</span> <input value=${text} placeholder="every key" spellcheck=${false}
        onInput=${(event) => setText(event.target.value)} /></label>
      <label class="check"><input type="checkbox" checked=${hasValues} onChange=${(event) => setHasValues(event.target.checked)} /> values</label>
      <button>Follow</button>
    </form>
    <p class="tools">
      <button aria-pressed=${String(!isOn)} onClick=${() => setOn(!isOn)}>${isOn ? "Pause" : "Go on"}</button>
      <button onClick=${clear} disabled=${!rows.length}>Clear</button>
      <${Badge} kind=${KINDS[state.word]}>${WORDS[state.word]}</${Badge}>
      <span class="soft">${counted(count, "change")}${count > rows.length ? `, the newest ${rows.length} shown` : ""}</span>
    </p>
    <${Trouble} failure=${state.failure} />
    ${rows.length ? html`<${Table} rows=${rows} />` : !state.failure && html`<${Empty}>${isOn ? "Nothing has changed since this page began to follow." : "Paused. When it goes on, what happened meanwhile comes too."}</${Empty}>`}`;
}

const KINDS = { live: "good", waiting: "warn", over: "bad", paused: "plain", off: "plain" };
const WORDS = { live: "following", waiting: "tries again", over: "ended", paused: "paused", off: "begins" };

function Table({ rows }) {
  return html`<div class="scrolled" tabindex="0" role="region" aria-label="Changes"><table class="changes">
    <thead><tr><th scope="col">Time</th><th scope="col">What</th><th scope="col">Key</th><th scope="col">Value</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.number}>
      <td class="time">${clock(row.time)}</td>
      <td><${Badge} kind=${row.op === "set" ? "plain" : "warn"}>${row.op}</${Badge}></td>
      ${row.op === "reset" || row.op === "flush"
        ? html`<td colspan="2">${row.note ?? "Every key was removed."}</td>`
        : html`<td class="name"><a href=${`#keys/${encodeURIComponent(row.key)}`}>${shownKey(row.key)}</a></td>
          <td class="name">${detailOf(row)}</td>`}
    </tr>`)}</tbody>
  </table></div>`;
}

function detailOf(row) {
  if (row.op === "del") return html`<span class="soft">${row.cause ?? ""}</span>`;
  if (row.value !== undefined) return cut(row.value, SHOWN_CHARACTERS);
  if (row.value_base64 !== undefined) return html`<span class="soft">bytes that are no text</span>`;
  return html`<span class="soft">${row.truncated ? "a long value" : "not told"}</span>`;
}
