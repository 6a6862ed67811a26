"""The room that the live store's pages take up: its size, samples of its keys, and tidying.

For the log's owner, which keeps a memory limit by it. Sizes are bytes of pages, as LMDB counts
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import lmdb
import msgspec

from synap.errors import DiskFull, MemoryLimit
from synap.store import walks
from synap.store.environment import Environment
from synap.store.layout import DEADLINE_BYTES, stored_expiry

# Keys that one visit of a hand takes, Redis's maxmemory-samples. Neighbours are mostly of one kind,
# so many short visits tell more than few long ones; below this the seek costs more than the keys.
_RUN_KEYS = 5
_HANDS = 16
# In a smaller store the hands meet all the time, and see every key soon wherever they are.
_CROWD_KEYS = 64 * _HANDS * _RUN_KEYS
# A tidying bite: about a millisecond.
_TIDY_KEYS = 1000
_TIDY_BYTES = 48 * 1024
# Of LMDB's pages: what the header takes, what a node and its index take, and what stands in a node
# for the pages of a long record.
_PAGE_HEADER_BYTES = 16
_NODE_BYTES = 10
_REFERENCE_BYTES = 8


class StoreSize(msgspec.Struct, frozen=True, gc=False):
    """What the committed store takes up.

    Attributes:
        used_bytes: Pages with data in them, and the meta pages.
        keys: Stored keys, expired ones that weren't swept too.
        leaf_bytes: Room for nodes in the pages that hold the keys.
    """

    used_bytes: int
    keys: int
    leaf_bytes: int


class KeySize(msgspec.Struct, frozen=True, gc=False):
    """What a stored key takes up.

    Attributes:
        node_bytes: In the page that holds the key.
        stored_bytes: In all, with its pages of its own and its place in the expiry index.
    """

    key: bytes
    node_bytes: int
    stored_bytes: int


class Room:
    """Measures, samples and tidies the store that it was made from.

    Samples come from hands that go round all keys, a short run at each visit. Every key is visited
    once in a hand's round, so none is likelier than another in the long run, which a jump to a
    random place in the keys' bytes can't give: a key in a thin branch would come up for ever. The
    hands start at such random places and keep their distances; one that meets another, as where
    the keys between them went, starts anew.
    """

    def __init__(self, environment: Environment, random: Random) -> None:
        self._environment = environment
        self._random = random
        self._page_bytes: int = environment.lmdb.stat()["psize"]
        self._longest_node = _longest_node(self._page_bytes)
        self._hands: dict[bool, list[bytes]] = {}
        self._turns = {False: 0, True: 0}
        self._tidy_hand = b""

    def size(self) -> StoreSize:
        """Measure the store."""
        environment = self._environment
        with environment.reading() as transaction:
            keys = transaction.stat(environment.keys)
            # Two meta pages, and the main database's one.
            pages = 3 + _pages(transaction, environment.keys)
            pages += _pages(transaction, environment.expiry)
            pages += _pages(transaction, environment.accounts)
            pages += _pages(transaction, environment.requests)
        return StoreSize(
            used_bytes=pages * self._page_bytes,
            keys=keys["entries"],
            leaf_bytes=keys["leaf_pages"] * (self._page_bytes - _PAGE_HEADER_BYTES),
        )

    def sample(self, runs: int, *, volatile: bool) -> list[list[bytes]]:
        """Return short runs of neighbouring keys, from places all over the store.

        Args:
            volatile: Only keys with a TTL.
        """
        environment = self._environment
        keys = environment.expiry if volatile else environment.keys
        hands = self._hands.get(volatile) or self._start_hands(keys, volatile=volatile)
        found = []
        with environment.reading() as transaction:
            cursor = transaction.cursor(keys)
            for _ in range(runs):
                turn = self._turns[volatile]
                self._turns[volatile] = (turn + 1) % _HANDS
                run, behind = walks.run(cursor, hands[turn], _RUN_KEYS)
                if behind in hands and transaction.stat(keys)["entries"] > _CROWD_KEYS:
                    behind = walks.random_key(cursor, self._random) or b""
                hands[turn] = behind
                found.append([key[DEADLINE_BYTES:] for key in run] if volatile else run)
        return found

    def soonest(self, count: int) -> list[bytes]:
        """Return the keys whose time comes first, in that order."""
        with self._environment.reading() as transaction:
            run, _ = walks.run(transaction.cursor(self._environment.expiry), b"", count)
        return [key[DEADLINE_BYTES:] for key in run]

    def weigh(self, keys: Iterable[bytes]) -> list[KeySize]:
        """Return what each of the keys takes up, without those that are not stored."""
        with self._environment.reading(buffers=True) as transaction:
            get, database = transaction.get, self._environment.keys
            return [
                key_size(key, len(record), stored_expiry(record), self._page_bytes)
                for key in keys
                if (record := get(key, None, database)) is not None
            ]

    def tidy(self) -> tuple[int, bool]:
        """Write some neighbouring keys anew, side by side, so that holes become free pages.

        Goes on where it ended the last time, round and round. Changes nothing that a reader sees,
        and has no place in the log. LMDB splits pages in halves where keys are put between others,
        so one round closes about half of the holes, and the next ones half of the rest.

        Returns:
            The bytes of pages that became free, and whether this was the last bite of a round.
        """
        items, self._tidy_hand = self._tidy_run()
        freed = self._rewrite(items) if len(items) > 1 else 0
        return freed * self._page_bytes, not self._tidy_hand

    def _start_hands(self, keys: Any, *, volatile: bool) -> list[bytes]:
        with self._environment.reading() as transaction:
            cursor = transaction.cursor(keys)
            places = [walks.random_key(cursor, self._random) or b"" for _ in range(_HANDS)]
        self._hands[volatile] = places
        return places

    def _tidy_run(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Collect neighbours that share pages; a record with pages of its own ends the run."""
        items: list[tuple[bytes, bytes]] = []
        collected = 0
        with self._environment.reading(buffers=True) as transaction:
            cursor = transaction.cursor(self._environment.keys)
            if not (cursor.set_range(self._tidy_hand) if self._tidy_hand else cursor.first()):
                return [], b""
            for visited, (key, record) in enumerate(cursor.iternext()):
                if visited == _TIDY_KEYS or collected > _TIDY_BYTES:
                    return items, bytes(key)
                node = _NODE_BYTES + len(key) + len(record)
                if node <= self._longest_node:
                    items.append((bytes(key), bytes(record)))
                    collected += node
                elif items:
                    return items, bytes(key)
        return items, b""

    def _rewrite(self, items: list[tuple[bytes, bytes]]) -> int:
        keys = self._environment.keys
        transaction = self._environment.begin_write()
        try:
            before = _pages(transaction, keys)
            written = sum(len(key) + len(record) for key, record in items)
            self._environment.have_room(2 * len(items), written)
            for key, _ in items:
                transaction.delete(key, b"", keys)
            transaction.cursor(keys).putmulti(items)
            freed = before - _pages(transaction, keys)
            if freed > 0:
                transaction.commit()
                return freed
        except lmdb.Error as error:
            refusal = self._environment.translate(error)
            if not isinstance(refusal, DiskFull | MemoryLimit):
                raise refusal from error
        finally:
            transaction.abort()
        return 0


def key_size(key: bytes, record_bytes: int, expiry_ms: int, page_bytes: int) -> KeySize:
    """Return what a key takes up.

    Args:
        record_bytes: Length of its record, the value and what is before it.
        expiry_ms: Its deadline; 0 for none.
        page_bytes: Size of the store's pages.
    """
    node = _NODE_BYTES + len(key) + record_bytes
    in_index = _NODE_BYTES + DEADLINE_BYTES + len(key) if expiry_ms else 0
    if node <= _longest_node(page_bytes):
        return KeySize(key, node, node + in_index)
    own_pages = -(-(record_bytes + _PAGE_HEADER_BYTES) // page_bytes)
    node = _NODE_BYTES + len(key) + _REFERENCE_BYTES
    return KeySize(key, node, node + in_index + own_pages * page_bytes)


def _longest_node(page_bytes: int) -> int:
    """Return the longest node that is not put on pages of its own."""
    return ((page_bytes - _PAGE_HEADER_BYTES) // 2 & ~1) - 2


def _pages(transaction: lmdb.Transaction[Any], database: Any) -> int:
    stat = transaction.stat(database)
    return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
