// Values as people read them: bytes to text, JSON and hex, and the difference of two texts. Pure.

/** Return the text that bytes are; null where they are no UTF-8. @param {Uint8Array} bytes */
export function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Return JSON in lines; null where the text is none. @param {string | null} text */
export function prettyOf(text) {
  if (text === null) return null;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

/** Numbers that JSON.parse changes. */
const LONG_NUMBER = /(^|[^"\w.])-?\d{16,}/;

/** Whether JSON shown in lines would show other numbers than it holds. @param {string} text */
export const losesDigits = (text) => LONG_NUMBER.test(text);

/** Return rows of 16 bytes: offset, hex, text. @param {Uint8Array} bytes @param {number} limit Bytes at most. */
export function hexOf(bytes, limit) {
  const rows = [];
  for (let at = 0; at < Math.min(bytes.length, limit); at += 16) {
    const part = [...bytes.subarray(at, at + 16)];
    const hex = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    rows.push(`${at.toString(16).padStart(8, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  return rows.join("\n");
}

/** Lines on either side of which a difference is looked for line by line. */
const MOST_COMPARED = 600;

/**
 * Return what changes between two texts, line by line: kept, taken away, added.
 * @param {string} before @param {string} after
 * @returns {{kind: "kept" | "gone" | "new", text: string}[]}
 */
export function difference(before, after) {
  const old = before.split("\n");
  const now = after.split("\n");
  let head = 0;
  while (head < old.length && head < now.length && old[head] === now[head]) head += 1;
  let tail = 0;
  while (tail < old.length - head && tail < now.length - head && old.at(-1 - tail) === now.at(-1 - tail)) tail += 1;
  const kept = (lines) => lines.map((text) => ({ kind: "kept", text }));
  const middle = changed(old.slice(head, old.length - tail), now.slice(head, now.length - tail));
  return [...kept(old.slice(0, head)), ...middle, ...kept(old.slice(old.length - tail))];
}

/** The longest common lines decide, where there are few enough. */
function changed(old, now) {
  const gone = (text) => ({ kind: "gone", text });
  const added = (text) => ({ kind: "new", text });
  if (!old.length || !now.length || old.length > MOST_COMPARED || now.length > MOST_COMPARED) {
    return [...old.map(gone), ...now.map(added)];
  }
  const longest = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      longest[i][j] = old[i] === now[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const found = [];
  let i = 0;
  let j = 0;
  while (i < old.length && j < now.length) {
    if (old[i] === now[j]) {
      found.push({ kind: "kept", text: old[i] });
      i += 1;
      j += 1;
    } else if (longest[i + 1][j] >= longest[i][j + 1]) found.push(gone(old[i++]));
    else found.push(added(now[j++]));
  }
  return [...found, ...old.slice(i).map(gone), ...now.slice(j).map(added)];
}
