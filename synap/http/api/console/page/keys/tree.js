// One level of the tree as a list that the arrow keys walk through.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { counted, shownKey } from "../format.js";
import { Empty } from "../parts.js";
import { PAGE_KEYS } from "./api.js";

/** @param {{page: import("./page.js").Page, chosen: string,
 *   onFolder: (name: string) => void, onKey: (name: string) => void}} props */
export function Tree({ page, chosen, onFolder, onKey }) {
  const { rows, under } = page;
  const [at, setAt] = useState(0);
  const list = useRef(null);
  const goesOn = useRef(false);
  useEffect(() => {
    setAt(0);
    // Who went down by the keyboard goes on in the list that took the place of the other.
    if (goesOn.current) list.current?.querySelector("button")?.focus();
    goesOn.current = false;
  }, [rows]);
  if (!rows) return page.failure ? null : html`<p>Loading …</p>`;
  if (!rows.length && !page.hasMore) {
    return html`<${Empty}>${under ? "No key that you may read begins like this." : "There are no keys that you may read."}</${Empty}>`;
  }
  const open = ({ isFolder, name }) => {
    goesOn.current = isFolder;
    (isFolder ? onFolder : onKey)(name);
  };
  const walk = (event) => {
    const to = STEPS[event.key]?.(at, rows.length);
    if (to === undefined) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(rows.length - 1, to));
    setAt(next);
    list.current.children[next].firstElementChild.focus();
  };
  return html`
    <ul class="rows" ref=${list} onKeyDown=${walk} aria-busy=${String(page.busy)}>
      ${rows.map((row, number) => html`<li key=${row.name}>
        <button tabindex=${number === at ? 0 : -1} class=${row.isFolder ? "folder" : "leaf"}
          aria-current=${row.name === chosen && !row.isFolder ? "true" : undefined} title=${shownKey(row.name)}
          onFocus=${() => setAt(number)} onClick=${() => open(row)}>${shownKey(row.name.slice(under.length)) || "(this name)"}</button>
      </li>`)}
    </ul>
    <${Pages} page=${page} />`;
}

const STEPS = {
  ArrowDown: (at) => at + 1,
  ArrowUp: (at) => at - 1,
  PageDown: (at) => at + 20,
  PageUp: (at) => at - 20,
  Home: () => 0,
  End: (_, count) => count - 1,
};

function Pages({ page }) {
  const folders = page.rows.filter(({ isFolder }) => isFolder).length;
  const keys = page.rows.length - folders;
  return html`<p class="pages">
    <span class="soft">${page.number > 1 ? `Page ${page.number}: ` : ""}${folders ? `${counted(folders, "folder")}, ` : ""}${counted(keys, "key")}${page.hasMore ? ", and more" : ""}</span>
    ${page.number > 1 && html`<button disabled=${page.busy} onClick=${page.first}>First page</button>`}
    ${page.hasMore && html`<button disabled=${page.busy} onClick=${page.next}>Next ${PAGE_KEYS}</button>`}
  </p>`;
}
