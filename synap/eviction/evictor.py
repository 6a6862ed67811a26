"""The memory limit at work: measures the store, chooses keys that are to go, closes holes.

The writer asks before each of its turns which keys to remove, removes them with the turn's own
transaction as DEL entries, so that replicas follow, and tells what the turn wrote. While there is
room for all that a turn can write, that costs nothing but a subtraction. The rules are in
`rules`, the times of access in `access_table`, the pages in the store's `room`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from random import Random

import msgspec

from synap.commands.commands import Command
from synap.commands.keyspace import Keyspace, Limits
from synap.eviction.access_table import AccessTable
from synap.eviction.rules import Ceiling, Policy, Pool, grows
from synap.frame import KEYS, SET, Effect, as_entry
from synap.store import KeySize, Store, StoreSize

# One turn removes at most so many keys: about ten milliseconds.
MAX_REMOVED_KEYS = 1000
# A page each for the key, for its deadline and for what a split makes of the branches above.
_PAGES_PER_ENTRY_BYTES = 3 * 4096
# Below this share of the leaf pages in use, closing holes gains more than it costs. Keys written in
# random order fill two thirds of their pages by themselves.
_SPARSE = 0.62
# The same where the store stands well above its limit. Keys in a steady order split their pages in
# waves, and keys that go from pages as full as that leave holes, but no page.
_SPARSE_ABOVE_LIMIT = 0.8
# Bites of a turn, of less than a millisecond each, and what one of them gains: mostly, and at least
# where it gains anything.
_MOST_TIDY_BITES = 8
_TIDY_BITE_BYTES = 16 * 1024
_MOST_TIDY_BITES_ABOVE_LIMIT = 32
_LEAST_TIDY_BITE_BYTES = 4096
# Samples more, while none has left anything over.
_FIRST_RUNS = 8
# Looks for keys that bring none but such as are chosen or gone already, before it gives up.
_FRUITLESS_LOOKS = 8
# Of the average size of the samples, how much of it a new one is.
_NEW_SHARE = 0.01


class Removal(msgspec.Struct, frozen=True, gc=False):
    """What a turn is to remove.

    Attributes:
        expired: Keys whose time had come, which go first.
        evicted: Keys that must go for others.
    """

    expired: Sequence[bytes] = ()
    evicted: Sequence[bytes] = ()

    def __bool__(self) -> bool:
        return bool(self.expired or self.evicted)


NOTHING = Removal()


class Evictor:
    """Keeps one store below its limit. Belongs to the log's owner.

    Attributes:
        limit_bytes: The limit; 0 is none.
        used_bytes: Used pages when they were last measured.
        is_tight: Whether the next turn could pass the limit, so that `before_turn` must be asked.
        is_refusing: Whether commands must pass `refuses`.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        limit_bytes: int,
        *,
        access: AccessTable | None = None,
        random: Random | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """
        Args:
            access: The node's table, for policies that go by it.
            clock_ns: Monotonic; moves the table's clock.
        """
        self._store = store
        self._random = random or Random()
        self._room = store.room(self._random)
        self._policy = policy
        self._ceiling = Ceiling(limit_bytes)
        self._access = access
        self._clock_ns = clock_ns
        self._pool = Pool()
        self._mean_node_bytes = 0.0
        self._mean_stored_bytes = 0.0
        self._free_bytes = 0
        # Keys when the limit was passed, or when keys were last chosen; those that go on refusing.
        self._balanced_keys: int | None = None
        self._refused_keys = 0
        self._tidied_keys = -1
        self._rested_bytes = 0
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.is_tight = bool(limit_bytes)
        self.is_refusing = False
        if access is not None:
            access.tick(clock_ns())

    def before_turn(self, now_ms: int) -> Removal:
        """Measure the store and return the keys that are to go with this turn.

        Args:
            now_ms: Wall clock in ms.
        """
        size = self._measure()
        begin_bytes = self._ceiling.begin_bytes
        if size.used_bytes <= begin_bytes:
            self._balanced_keys = None
            if self.is_refusing and size.used_bytes <= self._ceiling.resume_bytes:
                self.is_refusing = False
            return NOTHING
        expired = self._store.due(now_ms, MAX_REMOVED_KEYS)
        if self._policy.order == "none":
            self._refuse(size)
            return Removal(expired)
        over = size.used_bytes - begin_bytes
        goal_bytes = self._goal_bytes(size, over) - int(len(expired) * self._mean_stored_bytes)
        evicted = self._take(goal_bytes, MAX_REMOVED_KEYS - len(expired))
        if evicted or expired:
            self.is_refusing = False
        elif goal_bytes > 0:
            # Holes that were closed may have made room enough.
            size = self._measure()
            if size.used_bytes > begin_bytes:
                self._refuse(size)
        return Removal(expired, evicted)

    def after_turn(self, effects: Sequence[Effect], written_bytes: int) -> None:
        """Note what a turn has committed.

        Args:
            effects: What it did.
            written_bytes: Bytes of its values.
        """
        # Values have pages of their own above half a page: never more than double their bytes.
        self._free_bytes -= len(effects) * _PAGES_PER_ENTRY_BYTES + 2 * written_bytes
        self.is_tight = bool(self.limit_bytes) and (self._free_bytes <= 0 or self.is_refusing)
        access = self._access
        if access is not None:
            access.tick(self._clock_ns())
            wrote = access.wrote
            for entry in map(as_entry, effects):
                if entry.operation == SET and entry.space == KEYS:
                    wrote(entry.key)

    def refuses(self, command: Command, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Say whether a store that is full can't take `command`; deletes always pass."""
        return grows(command, keyspace, now_ms, limits)

    def rest(self) -> bool:
        """Do what the limit needs while nobody writes; return whether there is more to do.

        Holes that deletes have left are closed, so that a refusal ends by itself.
        """
        if self._access is not None:
            self._access.tick(self._clock_ns())
        size = self._measure()
        is_falling = self.limit_bytes < size.used_bytes < self._rested_bytes
        self._rested_bytes = size.used_bytes
        if is_falling and not self.is_refusing:
            return self._policy.order != "none"
        if not self.is_refusing:
            return False
        if size.used_bytes <= self._ceiling.resume_bytes:
            self.is_refusing = False
            return False
        return self._tidy_while_refusing(size)

    def _measure(self) -> StoreSize:
        size = self._room.size()
        self.used_bytes = size.used_bytes
        self._free_bytes = self.limit_bytes - size.used_bytes
        self.is_tight = bool(self.limit_bytes) and (self._free_bytes <= 0 or self.is_refusing)
        return size

    def _refuse(self, size: StoreSize) -> None:
        if not self.is_refusing:
            self.is_refusing = True
            self._refused_keys = size.keys
            self._tidied_keys = -1

    def _tidy_while_refusing(self, size: StoreSize) -> bool:
        # Without keys that went, tidying would only make room for the next refusal.
        if size.keys * 50 > self._refused_keys * 49 or size.keys == self._tidied_keys:
            return False
        _, is_round_over = self._room.tidy()
        if is_round_over:
            self._tidied_keys = size.keys
        return not is_round_over

    def _goal_bytes(self, size: StoreSize, over: int) -> int:
        """Close holes where there are many, and return the bytes of keys that must go."""
        if not self._mean_stored_bytes:
            self._take(1, 1)
            self._pool.clear()
        # While writes are refused, `rest` closes holes, and only where keys went.
        is_above = over > self._ceiling.slack_bytes and not self.is_refusing
        sparse = _SPARSE_ABOVE_LIMIT if is_above else _SPARSE
        is_sparse = size.keys * self._mean_node_bytes < size.leaf_bytes * sparse
        if is_sparse:
            freed = self._tidy(over, is_above=is_above)
            over -= freed
            # Keys that are smaller than most can make the store look emptier than it is.
            is_sparse = freed > 0
        balanced = size.keys if self._balanced_keys is None else self._balanced_keys
        self._balanced_keys = min(size.keys, balanced)
        grown = int((size.keys - balanced) * self._mean_stored_bytes)
        return self._ceiling.goal_bytes(max(over, 0), grown, is_sparse=is_sparse)

    def _tidy(self, over: int, *, is_above: bool) -> int:
        """Close holes until `over` bytes of pages are free, as far as a turn may take."""
        bite, most = _TIDY_BITE_BYTES, _MOST_TIDY_BITES
        if is_above:
            bite, most = _LEAST_TIDY_BITE_BYTES, _MOST_TIDY_BITES_ABOVE_LIMIT
        freed = 0
        for _ in range(min(most, 2 + over // bite)):
            freed += self._room.tidy()[0]
            if freed >= over:
                break
        return freed

    def _take(self, goal_bytes: int, limit: int) -> list[bytes]:
        """Return the coldest keys that are found, at most `limit`, with `goal_bytes` in all."""
        chosen: dict[bytes, None] = {}
        fruitless = 0
        while goal_bytes > 0 and len(chosen) < limit and fruitless < _FRUITLESS_LOOKS:
            mean = max(self._mean_stored_bytes, 1.0)
            count = min(limit - len(chosen), int(goal_bytes / mean) + 1)
            before = len(chosen)
            found = self._coldest(count, before)
            sizes = self._room.weigh(found)
            for size in sizes:
                self._average(size)
                if goal_bytes > 0 and size.key not in chosen:
                    chosen[size.key] = None
                    goal_bytes -= size.stored_bytes
            if not found:
                break
            if len(chosen) == before:
                fruitless += 1
        return list(chosen)

    def _coldest(self, count: int, chosen: int) -> list[bytes]:
        """Return up to `count` keys, more than the `chosen` ones where they come in an order."""
        if self._policy.order == "deadline":
            return self._room.soonest(chosen + count)[chosen:]
        # One sample alone may be all of hot neighbours.
        wanted = count if self._pool or self._access is None else count + _FIRST_RUNS
        runs = self._room.sample(wanted, volatile=self._policy.is_volatile)
        if self._access is None:
            return [self._random.choice(run) for run in runs if run]
        sample = itertools.chain.from_iterable(runs)
        return self._pool.coldest(sample, count, self._access.coldness)

    def _average(self, size: KeySize) -> None:
        if not self._mean_stored_bytes:
            self._mean_node_bytes = size.node_bytes
            self._mean_stored_bytes = size.stored_bytes
        self._mean_node_bytes += (size.node_bytes - self._mean_node_bytes) * _NEW_SHARE
        self._mean_stored_bytes += (size.stored_bytes - self._mean_stored_bytes) * _NEW_SHARE
