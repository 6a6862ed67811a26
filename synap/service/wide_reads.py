"""Reads that look at many keys or at all: pages, lists, digests, backups, exports and counts.

They run in the threads that read, beside the event loop, and each sees one state of the store. Keys
that the caller may not read are left out, so that nothing tells of them.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable

import msgspec

from synap.auth.permissions import Caller
from synap.backup.archive import Backup, take_backup
from synap.commands.key_spans import KeySpan, common
from synap.commands.records import MAX_KEY_BYTES, check_key
from synap.errors import BackupRunning, DataDirInUse, ExportsRunning
from synap.node.identity import lock_file
from synap.place import LogEnd
from synap.request_errors import InvalidRequest, KeyInvalid
from synap.service.exports import Export
from synap.service.local_node import LocalNode
from synap.shared.counters import Counter
from synap.shared.node_clock import now_ms
from synap.slots import slot_of
from synap.store import StoreReader
from synap.store.layout import ScanPage
from synap.store.range_digest import RangeDigest
from synap.store.walks import PAST_FOLDER

# A page of a scan never holds more keys; whoever asks for more gets a cursor with them.
MAX_PAGE_KEYS = 10_000
# Stored keys that one page looks at. A pattern that few of them fit gets short pages with cursors.
MAX_PAGE_VISITED = 20_000
# Most pages that one list of keys looks through: a million stored keys.
_MAX_LIST_PAGES = 50
_CURSOR_MARK_BYTES = 3
_NO_CURSOR = "parameter 'cursor' is not from an earlier page"
# Exports of one node at once: each keeps pages from being used again.
_MOST_EXPORTS = 2

_GETS, _HITS, _MISSES = int(Counter.GETS), int(Counter.HITS), int(Counter.MISSES)
_SETS, _DELS = int(Counter.SETS), int(Counter.DELS)


class Page(msgspec.Struct, frozen=True):
    """A page of a scan.

    Attributes:
        keys: In the order of their bytes.
        cursor: Where the next page begins; None after the last one.
        end: The applied end of the log that the page shows.
        folders: Of one level of a tree, what else begins alike; None of a plain scan.
    """

    keys: list[str]
    cursor: str | None
    end: LogEnd
    folders: list[str] | None = None

    def shown(self) -> dict[str, object]:
        """Return the form of the contract, ready for JSON."""
        folders = {} if self.folders is None else {"folders": self.folders}
        return folders | {
            "keys": self.keys,
            "count": len(self.keys),
            "cursor": self.cursor,
            "has_more": self.cursor is not None,
        }


class KeyStats(msgspec.Struct, frozen=True):
    """What `/kv/stats` tells; the counts are those of all workers.

    Attributes:
        total_keys: Keys that exist.
        total_memory_bytes: Bytes of the store's used pages.
        gets: Keys that were asked for, `hits` of them found and `misses` not.
        sets: Keys that were written, their deadlines and names too.
        dels: Keys that were removed by clients; the old name of a renamed one counts.
        end: The applied end of the log that `total_keys` belongs to.
    """

    total_keys: int
    total_memory_bytes: int
    gets: int
    hits: int
    misses: int
    sets: int
    dels: int
    end: LogEnd

    def shown(self) -> dict[str, object]:
        """Return the form of the contract, ready for JSON."""
        return {
            "total_keys": self.total_keys,
            "total_memory_bytes": self.total_memory_bytes,
            "operations": {
                "gets": self.gets,
                "sets": self.sets,
                "dels": self.dels,
                "hits": self.hits,
                "misses": self.misses,
            },
            "hit_rate": self.hits / self.gets if self.gets else 0.0,
        }


class WideReads:
    """The reads of one node. Each of them raises Forbidden where the caller may not."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node

    async def scan(
        self,
        caller: Caller,
        *,
        prefix: bytes,
        pattern: bytes | None,
        cursor: str | None,
        limit: int,
        delimiter: bytes | None = None,
    ) -> Page:
        """Return the next page of the existing keys that begin with `prefix` and fit `pattern`.

        Keys that the caller may not read are left out.

        Args:
            caller: Who asks.
            prefix: b"" for all keys.
            pattern: Glob pattern, or None.
            cursor: From the page before; None for the first.
            limit: Most keys in the page, from 1; at most MAX_PAGE_KEYS count.
            delimiter: For one level of a tree; None for all keys. Excludes `pattern`.

        Raises:
            InvalidRequest: the limit is below 1, the cursor is not from an earlier page, the
                prefix, the pattern or the delimiter is longer than any key, or the delimiter is
                empty or given with a pattern.
        """
        _check_scan(prefix, pattern, delimiter, limit)
        after = None if cursor is None else _key_of_cursor(cursor)
        folders: list[str] | None = None if delimiter is None else []
        if not common(caller.readable, (KeySpan(prefix),)):
            # The few threads that read are for those who may see something.
            return Page([], None, self._node.reader().applied().end, folders)
        accepts, read = _seen_by(caller), _page_reader(caller, prefix, pattern, delimiter, limit)
        while True:
            found = await self._node.read_in_thread(read, after)
            if accepts is None or found.keys or found.folders or found.next is None:
                break
            after = found.next
        following = found.next
        if accepts is not None and following is not None:
            # The last key that was looked at may be one whose name the caller must not learn.
            last_folder = (each + PAST_FOLDER for each in found.folders[-1:])
            following = max(*found.keys[-1:], *last_folder, b"")
        if folders is not None:
            folders = [folder.decode() for folder in found.folders]
        shown = None if following is None else _cursor_of_key(following)
        return Page([key.decode() for key in found.keys], shown, found.end, folders)

    async def list_keys(self, caller: Caller, pattern: bytes) -> Page:
        """Return all existing keys that fit `pattern`, MAX_PAGE_KEYS of them at most.

        Its cursor is where it was cut: by that number, or after a million stored keys. Keys that
        come or go meanwhile may be in it or not.
        """
        keys: list[str] = []
        cursor: str | None = None
        for _ in range(_MAX_LIST_PAGES):
            page = await self.scan(
                caller, prefix=b"", pattern=pattern, cursor=cursor, limit=MAX_PAGE_KEYS - len(keys)
            )
            keys += page.keys
            cursor = page.cursor
            if cursor is None or len(keys) == MAX_PAGE_KEYS:
                break
        return Page(keys, cursor, page.end)

    async def random_key(self, caller: Caller) -> tuple[str | None, LogEnd]:
        """Return some existing key that the caller may read, or None, and the end of the log."""
        if not caller.readable:
            return None, self._node.reader().applied().end
        key, end = await self._node.read_in_thread(_random_key, caller)
        return (None if key is None else key.decode()), end

    async def digest(self, caller: Caller) -> tuple[LogEnd, int, str]:
        """Return the log's applied end, the number of stored entries and the digest of them all."""
        caller.require("admin", b"node:digest")
        return await self._node.read_in_thread(_digest)

    async def digest_range(
        self, caller: Caller, space: int, after: bytes, until: bytes | None, limit: int
    ) -> RangeDigest:
        """Return the digest of a range of stored keys; see `synap.store.range_digest`."""
        caller.require("admin", b"node:digest")
        return await self._node.read_in_thread(_digest_range, space, after, until, limit)

    async def backup(self, caller: Caller) -> Backup:
        """Take a backup; whoever gets it closes it.

        Args:
            caller: Who asks.

        Raises:
            BackupRunning: another one of this node is not closed yet.
            DiskFull: there is no room for the copy.
        """
        caller.require("admin", b"node:backup")
        return await self._node.read_in_thread(_back_up, self._node)

    async def export(self, caller: Caller, prefix: bytes, slot: int | None = None) -> Export:
        """Begin an export of the keys that begin with `prefix`; whoever gets it closes it.

        Keys that the caller may not read are left out, and those of other slots than `slot`.

        Raises:
            Forbidden: the caller may do nothing at all.
            InvalidRequest: the prefix is longer than any key.
            ExportsRunning: as many are under way on this node as may be.
        """
        caller.require_something()
        if len(prefix) > MAX_KEY_BYTES:
            raise InvalidRequest(f"parameter 'prefix' is over {MAX_KEY_BYTES} bytes")
        node = self._node
        lock = _lock_export(node)
        try:
            reader = node.borrow()
            try:
                walk = reader.walk_records(
                    prefix, now_ms(), spans=caller.readable, accepts=_in_slot(caller, slot)
                )
            except BaseException:
                node.give_back(reader)
                raise
        except BaseException:
            os.close(lock)
            raise
        return Export(
            walk, node.reigns(walk.end.history), prefix, lock=lock,
            seconds=node.config.server.export_timeout_secs,
            on_close=lambda: node.give_back(reader),
        )  # fmt: skip

    async def stats(self, caller: Caller) -> KeyStats:
        """Return the counts of keys, bytes and operations, which tell of all keys."""
        caller.require_for_all_keys("read")
        keys, used_bytes, end = await self._node.read_in_thread(_measure)
        totals = self._node.totals()
        return KeyStats(
            keys, used_bytes, totals[_GETS], totals[_HITS], totals[_MISSES], totals[_SETS],
            totals[_DELS], end,
        )  # fmt: skip


def _lock_export(node: LocalNode) -> int:
    for number in range(_MOST_EXPORTS):
        try:
            return lock_file(node.paths.run_dir / f"export-{number}.lock")
        except DataDirInUse:
            continue
    raise ExportsRunning


def _back_up(reader: StoreReader, node: LocalNode) -> Backup:
    paths = node.paths
    try:
        lock = lock_file(paths.run_dir / "backup.lock")
    except DataDirInUse as error:
        raise BackupRunning from error
    try:
        return take_backup(
            reader, paths.snapshots_dir, paths.node_file, node.config.server.node_id, now_ms(), lock
        )
    except BaseException:
        os.close(lock)
        raise


def _seen_by(caller: Caller) -> Callable[[bytes], bool] | None:
    """Return what tells whether the caller may read a key; None where that is all of them."""
    return caller.may_read if caller.is_limited else None


def _in_slot(caller: Caller, slot: int | None) -> Callable[[bytes], bool] | None:
    """Return the same where only keys of a slot count."""
    seen = _seen_by(caller)
    if slot is None:
        return seen
    return lambda key: slot_of(key) == slot and (seen is None or seen(key))


def _page_reader(
    caller: Caller, prefix: bytes, pattern: bytes | None, delimiter: bytes | None, limit: int
) -> Callable[[StoreReader, bytes | None], ScanPage]:
    """Return what reads the page after a key, as `NodeApi.scan` was asked for."""
    page_keys, accepts = min(limit, MAX_PAGE_KEYS), _seen_by(caller)

    def read(reader: StoreReader, after: bytes | None) -> ScanPage:
        if delimiter is not None:
            return reader.scan_level(
                prefix, delimiter, after, page_keys, now_ms(),
                max_visited=MAX_PAGE_VISITED, spans=caller.readable, accepts=accepts,
            )  # fmt: skip
        return reader.scan(
            prefix, after, page_keys, now_ms(), pattern=pattern,
            max_visited=MAX_PAGE_VISITED, spans=caller.readable, accepts=accepts,
        )  # fmt: skip

    return read


def _random_key(reader: StoreReader, caller: Caller) -> tuple[bytes | None, LogEnd]:
    key = reader.random_key(now_ms(), spans=caller.readable, accepts=_seen_by(caller))
    return key, reader.applied().end


def _digest(reader: StoreReader) -> tuple[LogEnd, int, str]:
    offset, keys, digest = reader.digest()
    # What was logged meanwhile follows on the same log.
    return LogEnd(offset, reader.applied().history), keys, digest


def _digest_range(
    reader: StoreReader, space: int, after: bytes, until: bytes | None, limit: int
) -> RangeDigest:
    return reader.digest_range(space, after, until, limit)


def _measure(reader: StoreReader) -> tuple[int, int, LogEnd]:
    return reader.count(now_ms()), reader.used_bytes(), reader.applied().end


def _cursor_of_key(key: bytes) -> str:
    # The key itself: a place in the order of the keys, the same on every node and for ever. The
    # checksum tells it from a text of somebody else's.
    marked = zlib.crc32(key).to_bytes(4)[:_CURSOR_MARK_BYTES] + key
    return base64.urlsafe_b64encode(marked).decode().rstrip("=")


def _check_scan(prefix: bytes, pattern: bytes | None, delimiter: bytes | None, limit: int) -> None:
    """Raise InvalidRequest for parameters that `NodeApi.scan` does not take."""
    if limit < 1:
        raise InvalidRequest("parameter 'limit' is below 1")
    texts = (("prefix", prefix), ("pattern", pattern or b""), ("delimiter", delimiter or b""))
    for name, text in texts:
        if len(text) > MAX_KEY_BYTES:
            raise InvalidRequest(f"parameter '{name}' is over {MAX_KEY_BYTES} bytes")
    if delimiter is not None and (not delimiter or pattern is not None):
        problem = "goes without 'pattern'" if delimiter else "is empty"
        raise InvalidRequest(f"parameter 'delimiter' {problem}")


def _key_of_cursor(cursor: str) -> bytes:
    try:
        marked = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = marked[_CURSOR_MARK_BYTES:]
        check_key(key.removesuffix(PAST_FOLDER))
    except (ValueError, KeyInvalid) as error:
        raise InvalidRequest(_NO_CURSOR) from error
    if _cursor_of_key(key) != cursor:
        raise InvalidRequest(_NO_CURSOR)
    return key
