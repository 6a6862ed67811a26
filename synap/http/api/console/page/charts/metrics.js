// Reads the node's metrics, text in the form of Prometheus. Pure.

const LINE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;

/** Those that the charts are made of. */
const REQUESTS = "synap_http_request_duration_seconds";
const SYNCS = "synap_wal_fsync_duration_seconds";
const LAG = "synap_replication_lag_entries";
/** A stream's answer takes as long as somebody listens. */
const STREAMS = new Set(["/watch"]);

/**
 * @typedef {object} Sample What the node had counted at one moment.
 * @property {number} at Seconds since 1970.
 * @property {Map<number, number>} requests How many were answered within so many seconds.
 * @property {Map<number, number>} syncs The same of the log's syncs.
 * @property {Map<string, number>} lag Entries by replica.
 * @property {number | null} logBytes
 * @property {number | null} storeBytes
 * @property {number} evicted
 */

/** @param {string} text @param {number} at @returns {Sample} */
export function sampleOf(text, at) {
  /** @type {Sample} */
  const sample = {
    at, requests: new Map(), syncs: new Map(), lag: new Map(), logBytes: null, storeBytes: null, evicted: 0,
  };
  for (const line of text.split("\n")) {
    const take = line.startsWith("synap_") && TAKERS[line.slice(0, line.search(/[{ ]/))];
    if (!take) continue;
    const [, , labels = "", value] = LINE.exec(line) ?? [];
    if (value !== undefined) take(sample, labelsOf(labels), Number(value));
  }
  return sample;
}

/** @param {string} text @returns {Record<string, string>} */
function labelsOf(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(LABEL)) found[name] = value.replace(/\\(.)/g, "$1");
  return found;
}

const boundOf = (le) => (le === "+Inf" ? Infinity : Number(le));

function add(counts, le, value) {
  const bound = boundOf(le);
  counts.set(bound, (counts.get(bound) ?? 0) + value);
}

const TAKERS = {
  [`${REQUESTS}_bucket`]: (sample, { route, le }, value) => STREAMS.has(route) || add(sample.requests, le, value),
  [`${SYNCS}_bucket`]: (sample, { le }, value) => add(sample.syncs, le, value),
  [LAG]: (sample, { replica }, value) => sample.lag.set(replica ?? "", value),
  synap_wal_bytes: (sample, _, value) => { sample.logBytes = value; },
  synap_store_bytes: (sample, { kind }, value) => { if (kind === "used") sample.storeBytes = value; },
  synap_evicted_total: (sample, _, value) => { sample.evicted = value; },
};

/** Return what was counted between two samples; null where the node began anew between them. */
function between(before, after) {
  const grown = new Map();
  for (const [bound, count] of after) grown.set(bound, count - (before.get(bound) ?? 0));
  return [...grown.values()].some((count) => count < 0) ? null : grown;
}

/** How many, all in all. @param {Map<number, number> | null} counts */
const total = (counts) => (counts ? counts.get(Infinity) ?? 0 : null);

/**
 * Return the time that a part of all stayed below, in ms, as near as the bounds tell; null for none.
 * @param {Map<number, number> | null} counts Cumulated. @param {number} part
 */
export function quantile(counts, part) {
  const all = total(counts);
  if (!counts || !all) return null;
  let lower = 0;
  let below = 0;
  for (const bound of [...counts.keys()].sort((one, other) => one - other)) {
    const count = counts.get(bound) ?? 0;
    if (count >= part * all) {
      if (bound === Infinity) return lower * 1000;
      return (lower + (bound - lower) * ((part * all - below) / (count - below || 1))) * 1000;
    }
    lower = bound;
    below = count;
  }
  return null;
}

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {(number | null)[]} values
 */

/**
 * Return what each chart shows, by its name: series of the same length as `times`.
 * @param {Sample[]} samples
 * @returns {{times: number[], charts: Record<string, Series[]>}}
 */
export function chartsOf(samples) {
  const pairs = samples.slice(1).map((after, at) => ({ before: samples[at], after }));
  const each = (/** @type {(pair: {before: Sample, after: Sample}) => number | null} */ value) => pairs.map(value);
  const requests = pairs.map(({ before, after }) => between(before.requests, after.requests));
  const syncs = pairs.map(({ before, after }) => between(before.syncs, after.syncs));
  const perSecond = (count, { before, after }) => (count === null || count < 0 ? null : count / (after.at - before.at));
  const replicas = [...new Set(samples.flatMap(({ lag }) => [...lag.keys()]))].sort();
  return {
    times: pairs.map(({ after }) => after.at),
    charts: {
      requests: [{ name: "requests", values: pairs.map((pair, at) => perSecond(total(requests[at]), pair)) }],
      times: [
        { name: "p50", values: requests.map((counts) => quantile(counts, 0.5)) },
        { name: "p99", values: requests.map((counts) => quantile(counts, 0.99)) },
      ],
      lag: replicas.map((name) => ({ name: name || "this node", values: each(({ after }) => after.lag.get(name) ?? null) })),
      syncs: [{ name: "p99", values: syncs.map((counts) => quantile(counts, 0.99)) }],
      bytes: [
        { name: "log", values: each(({ after }) => after.logBytes) },
        { name: "store", values: each(({ after }) => after.storeBytes) },
      ],
      evictions: [{ name: "evicted", values: each((pair) => perSecond(pair.after.evicted - pair.before.evicted, pair)) }],
    },
  };
}
