// Numbers, times and names as people read them. Pure.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Whether a node told a number; null and undefined are what it does not know. @returns {value is number} */
const isNumber = (value) => Number.isFinite(value);

/** @param {number | null | undefined} count */
export function bytes(count) {
  if (!isNumber(count)) return "unknown";
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

/** @param {number | null | undefined} value */
export function number(value) {
  return isNumber(value) ? value.toLocaleString("en-US") : "unknown";
}

/** Return "1 entry" or "2 entries". @param {number} count @param {string} one @param {string} [many] */
export function counted(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** Return a span of time. @param {number | null | undefined} ms */
export function span(ms) {
  if (!isNumber(ms)) return "unknown";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** Return how long ago a moment was. @param {number | null | undefined} ms Since 1970. */
export function ago(ms) {
  return isNumber(ms) && ms ? `${span(Math.max(0, Date.now() - ms))} ago` : "never";
}

/** Return the time of day with milliseconds. @param {number} ms Since 1970. */
export function clock(ms) {
  const at = new Date(ms);
  const day = at.toLocaleTimeString("en-GB");
  return `${day}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** Return a text of at most `length` characters. @param {string} text @param {number} length */
export function cut(text, length) {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/** Return a key as it is shown: what no font shows is escaped. @param {string} key */
export function shownKey(key) {
  // Controls, and marks that turn the direction of the text around them.
  return key.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (mark) =>
    `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
