// One page of one level of the tree.

import { useEffect, useRef, useState } from "../vendor/preact.js";
import { level } from "./api.js";

/**
 * @typedef {object} Page
 * @property {{isFolder: boolean, name: string}[] | null} rows In order; null before the first answer.
 * @property {string} under The prefix that these begin with.
 * @property {number} number From 1.
 * @property {boolean} hasMore
 * @property {boolean} busy
 * @property {any} failure
 * @property {() => void} next
 * @property {() => void} first
 * @property {() => void} again
 */

/**
 * Keep the page that is shown: the first of a level, then those that were asked for.
 * @param {string} prefix @param {string} delimiter
 * @returns {Page}
 */
export function usePage(prefix, delimiter) {
  const [place, setPlace] = useState({ prefix, delimiter, cursor: null, number: 1, turn: 0 });
  const [shown, setShown] = useState({ rows: null, under: "", cursor: null, busy: true, failure: null });
  const latest = useRef(place);
  if (place.prefix !== prefix || place.delimiter !== delimiter) {
    setPlace({ prefix, delimiter, cursor: null, number: 1, turn: place.turn + 1 });
  }
  latest.current = place;
  useEffect(() => {
    const ending = new AbortController();
    setShown((old) => ({ ...old, busy: true, failure: null }));
    level(place.prefix, place.delimiter, place.cursor, ending.signal).then(
      ({ folders = [], keys, cursor }) => setShown({
        rows: inOrder(folders, keys), under: place.prefix, cursor, busy: false, failure: null,
      }),
      (failure) => ending.signal.aborted || setShown((old) => ({ ...old, busy: false, failure })),
    );
    return () => ending.abort();
  }, [place]);
  const go = (change) => setPlace({ ...latest.current, ...change, turn: latest.current.turn + 1 });
  return {
    ...shown,
    number: place.number,
    hasMore: shown.cursor !== null,
    next: () => go({ cursor: shown.cursor, number: place.number + 1 }),
    first: () => go({ cursor: null, number: 1 }),
    again: () => go({}),
  };
}

/** Folders first, as in every tree of files. */
function inOrder(folders, keys) {
  return [
    ...folders.map((name) => ({ isFolder: true, name })),
    ...keys.map((name) => ({ isFolder: false, name })),
  ];
}
