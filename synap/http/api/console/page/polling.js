// Hooks: asking again and again while somebody looks, and once for what somebody chose.

import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";

/**
 * Call `ask` every `everyMs` while the page can be seen, never twice at once.
 * @template T
 * @param {() => Promise<T>} ask
 * @param {number} everyMs
 * @returns {{value: T | null, at: number, failure: any, again: () => void}} The newest answer stays
 *   when one fails; `at` is when it came (ms since 1970).
 */
export function usePolled(ask, everyMs) {
  const [state, setState] = useState({ value: null, at: 0, failure: null });
  const asking = useRef(ask);
  asking.current = ask;
  const wake = useRef(() => {});
  useEffect(() => {
    let timer = 0;
    let over = false;
    let busy = false;
    async function look() {
      clearTimeout(timer);
      if (over || busy || document.hidden) return;
      busy = true;
      try {
        const value = await asking.current();
        if (!over) setState({ value, at: Date.now(), failure: null });
      } catch (failure) {
        if (!over) setState((old) => ({ ...old, failure }));
      }
      busy = false;
      if (!over) timer = setTimeout(look, everyMs);
    }
    wake.current = look;
    document.addEventListener("visibilitychange", look);
    look();
    return () => {
      over = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [everyMs]);
  return { ...state, again: () => wake.current() };
}

/**
 * Run one task at a time and keep how it went.
 * @returns {{busy: boolean, failure: any, run: (task: () => Promise<any>) => Promise<boolean>,
 *   clear: () => void}} `run` tells whether the task succeeded.
 */
export function useTask() {
  const [state, setState] = useState({ busy: false, failure: null });
  const run = useCallback(async (/** @type {() => Promise<any>} */ task) => {
    setState({ busy: true, failure: null });
    try {
      await task();
      setState({ busy: false, failure: null });
      return true;
    } catch (failure) {
      setState({ busy: false, failure });
      return false;
    }
  }, []);
  return { ...state, run, clear: () => setState({ busy: false, failure: null }) };
}
