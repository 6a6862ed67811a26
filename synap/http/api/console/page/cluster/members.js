// The members of a cluster from what one node tells. Pure.

import { cut } from "../format.js";

/**
 * @typedef {object} Member
 * @property {string} key Unique among them.
 * @property {string} name Its server.node_id, or what else is known of it.
 * @property {boolean} isOwn Whether it serves this page.
 * @property {string} role
 * @property {string} state
 * @property {string} url Empty where that is unknown, as the other texts.
 * @property {string} note
 * @property {string} read_only Why a master takes no writes.
 * @property {number | null} epoch
 * @property {number | null} offset
 * @property {number | null} lag_entries
 * @property {number | null} lag_ms
 * @property {number | null} contact_ms
 * @property {boolean} open
 * @property {string} upstream Whom a replica follows, where that is not the master.
 * @property {string} version
 * @property {string} position
 * @property {number | null} snapshot_at_ms
 * @property {number | null} lease_ms
 */

/** As long as a node takes them from another: what is longer is cut, so that no card is longer for it. */
const NAME_CHARACTERS = 128;
const NOTE_CHARACTERS = 2048;
const URL_CHARACTERS = 300;

/** Return a text that a node told, and "" for what is none. @param {any} value @param {number} [length] */
const text = (value, length = NAME_CHARACTERS) => (typeof value === "string" ? cut(value, length) : "");

/** Return a number that a node told, and null for what is none. @param {any} value */
const count = (value) => (Number.isFinite(value) ? value : null);

/**
 * Return masters (one, mostly) and replicas.
 * @param {any} cluster What `/cluster` tells.
 * @param {any} replication What `/health/replication` tells.
 * @returns {{masters: Member[], replicas: Member[]}}
 */
export function membersOf(cluster, replication) {
  const told = new Map((replication.replicas ?? []).map((each) => [each.id, each.note]));
  const members = cluster.members.map((each, at) => memberOf(each, at, told.get(each.node_id)));
  const own = members[0];
  if (own?.role === "replica") own.note ||= text(replication.note, NOTE_CHARACTERS);
  return {
    masters: members.filter(({ role }) => role !== "replica"),
    replicas: members.filter(({ role }) => role === "replica"),
  };
}

/** @param {any} each @param {number} at @param {any} note What its master says of it. @returns {Member} */
function memberOf(each, at, note) {
  const name = text(each.node_id);
  return {
    key: `${at ? each.role : "own"} ${name || text(each.url) || at}`,
    name: name || (each.role === "master" ? "its master" : "unnamed"),
    isOwn: at === 0,
    role: text(each.role),
    state: text(each.state),
    url: text(each.url, URL_CHARACTERS),
    note: text(each.note, NOTE_CHARACTERS) || text(note, NOTE_CHARACTERS),
    read_only: text(each.read_only),
    epoch: count(each.epoch),
    offset: count(each.offset),
    lag_entries: count(each.lag_entries),
    lag_ms: count(each.lag_ms),
    contact_ms: count(each.contact_ms),
    open: each.open === true,
    upstream: text(each.upstream),
    version: text(each.version),
    position: text(each.position),
    snapshot_at_ms: count(each.snapshot_at_ms),
    lease_ms: count(each.lease_ms),
  };
}

const GOOD = new Set(["writable", "in_sync", "heard"]);
const ON_THE_WAY = new Set(["catching_up", "syncing", "lagging", "connecting", "recovering", "writes_paused"]);

/** Return `good`, `warn` or `bad`. @param {string} state */
export function kindOf(state) {
  if (GOOD.has(state)) return "good";
  return ON_THE_WAY.has(state) ? "warn" : "bad";
}

const MEANINGS = {
  writable: "takes writes",
  in_sync: "keeps up with its master",
  heard: "is heard by this replica",
  catching_up: "fetches what it lacks from its master's log",
  syncing: "takes a whole copy of its master's data",
  lagging: "is too far behind its master",
  connecting: "looks for its master",
  disconnected: "is not heard",
  diverged: "has entries that its master lacks, and does not follow; see Operations",
  recovering: "asks its replicas for what it may have lost",
  disk_full: "takes no writes: its disk is full",
  memory_limit: "takes no writes: the store is at its memory limit",
  stale_epoch: "takes no writes: its reign has ended, another node is master",
  writes_paused: "holds writes back for a switchover",
  no_lease: "takes no writes: it has no lease from the engine of elections",
  no_quorum: "acknowledges no writes: too few replicas are heard",
  data_dir_lost: "takes no writes: its data directory was taken away",
  writer_unavailable: "takes no writes: its writer is not there",
  writer_silent: "has a writer that shows no life",
  replica_silent: "has a replica process that shows no life",
};

/** Return what a state means, in words; the word itself where it has no others. @param {string} state */
export const meaningOf = (state) => MEANINGS[state] ?? state;
