"""Random commands under a clock that goes both ways: the real store against a plain dict.

The model below shares no rule with the code: it keeps what is stored as (value, deadline, version)
and says for each command what must come out and how many entries it must become.
"""

import re
import tempfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from synap.commands.commands import Command
from synap.commands.keys import Copy, Delete, Expire, Flush, Persist, Rename, SetMany
from synap.commands.keyspace import ABSENT, Limits
from synap.commands.records import is_live, slice_range, ttl_seconds
from synap.commands.strings import (
    Append,
    GetSet,
    Increment,
    IncrementFloat,
    Set,
    SetRange,
    SetResult,
)
from synap.frame import Entry
from synap.place import UNKNOWN_TAG, Place, Reigns
from synap.position import Position, Reign
from synap.request_errors import CommandError
from synap.store import Applied, Store, StoreReader, WriteTransaction

LIMIT = 12
MAP_BYTES = 16 * 1024 * 1024
START_MS = 1_000_000
END_OF_TIME = 2**62


# Entry 6 is the first of the second reign.
TAGS = ("aaaaaaaa", "bbbbbbbb")
REIGNS = Reigns(
    tuple(
        Reign(number, bytes.fromhex(tag * 4), first)
        for number, (tag, first) in enumerate(zip(TAGS, (1, 6), strict=True), 1)
    )
)


class Refused(Exception):
    """The model's word for a command error."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def outcome(call: Callable[[], object]) -> object:
    """Return the call's result, or the reason for which it was refused."""
    try:
        return call()
    except (CommandError, Refused) as error:
        return error.reason


def is_wanted(wanted: Place | None, row: tuple[bytes, int | None, int] | None) -> bool:
    """Say whether a key is as a condition on its version wants it."""
    if wanted is None:
        return True
    if row is None:
        return str(wanted) == "0-00000000"
    return str(wanted) == f"{row[2]}-{TAGS[row[2] >= 6]}"


class Model:
    """What is stored: key to (value, deadline or None, version)."""

    def __init__(self) -> None:
        self.rows: dict[bytes, tuple[bytes, int | None, int]] = {}
        self.offset = 0
        self.now = START_MS

    def clone(self) -> "Model":
        other = Model()
        other.rows, other.offset, other.now = dict(self.rows), self.offset, self.now
        return other

    def visible(self, key: bytes) -> tuple[bytes, int | None, int] | None:
        row = self.rows.get(key)
        return None if row is None or (row[1] is not None and row[1] <= self.now) else row

    def visible_keys(self) -> list[bytes]:
        return [key for key in sorted(self.rows) if self.visible(key)]

    def write(self, key: bytes, value: bytes, deadline: int | None) -> int:
        self.offset += 1
        self.rows[key] = (value, deadline, self.offset)
        return self.offset

    def erase(self, key: bytes) -> None:
        self.offset += 1
        del self.rows[key]

    def run(self, command: Command) -> object:
        method = getattr(self, re.sub("(?!^)([A-Z])", r"_\1", type(command).__name__).lower())
        return method(command)

    def set(self, c: Set) -> object:
        self.fit(c.value)
        row = self.visible(c.key)
        version = row[2] if row else 0
        old = row[0] if row and c.get else None
        if c.nx and c.xx:
            raise Refused("invalid_request")
        if (c.nx and row) or (c.xx and not row) or not is_wanted(c.if_version, row):
            return False, version, old
        deadline = c.expiry_ms
        if deadline is None and c.keepttl and row:
            deadline = row[1]
        return True, self.write(c.key, c.value, deadline), old

    def delete(self, c: Delete) -> object:
        if c.if_version is not None:
            if len(c.keys) != 1:
                raise Refused("invalid_request")
            row = self.visible(c.keys[0])
            if not is_wanted(c.if_version, row):
                return -1
        gone = [key for key in dict.fromkeys(c.keys) if self.visible(key)]
        for key in gone:
            self.erase(key)
        return len(gone)

    def increment(self, c: Increment) -> object:
        row = self.visible(c.key)
        text = row[0].decode("latin-1") if row else "0"
        if not text.lstrip("-").isdecimal() or str(int(text)) != text:
            raise Refused("invalid_value")
        total = int(text) + c.amount
        if any(not -(2**63) <= number < 2**63 for number in (int(text), total)):
            raise Refused("invalid_value")
        self.write(c.key, str(total).encode(), row[1] if row else None)
        return total

    def increment_float(self, c: IncrementFloat) -> object:
        row = self.visible(c.key)
        text = row[0].decode("latin-1") if row else "0"
        if not re.fullmatch(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?", text):
            raise Refused("invalid_value")
        # Exact, while the code adds decimals: the same for amounts of few binary digits.
        total = float(Fraction(text) + Fraction(c.amount))
        texts = (f"{total:.{digits}f}" for digits in range(400))
        value = next(text for text in texts if float(text) == total).encode()
        self.fit(value)
        self.write(c.key, value, row[1] if row else None)
        return value

    def append(self, c: Append) -> object:
        row = self.visible(c.key)
        value = (row[0] if row else b"") + c.value
        self.fit(value)
        self.write(c.key, value, row[1] if row else None)
        return len(value)

    def set_range(self, c: SetRange) -> object:
        row = self.visible(c.key)
        if c.at < 0:
            raise Refused("invalid_request")
        value = bytearray(row[0] if row else b"")
        if not c.value:
            return len(value)
        while len(value) < c.at + len(c.value):
            value.append(0)
        for place, byte in enumerate(c.value):
            value[c.at + place] = byte
        self.fit(value)
        self.write(c.key, bytes(value), row[1] if row else None)
        return len(value)

    def get_set(self, c: GetSet) -> object:
        self.fit(c.value)
        row = self.visible(c.key)
        self.write(c.key, c.value, None)
        return row[0] if row else None

    def expire(self, c: Expire) -> object:
        row = self.visible(c.key)
        if not row:
            return False
        if c.expiry_ms <= self.now:
            self.erase(c.key)
        else:
            self.write(c.key, row[0], c.expiry_ms)
        return True

    def persist(self, c: Persist) -> object:
        row = self.visible(c.key)
        if not row or row[1] is None:
            return False
        self.write(c.key, row[0], None)
        return True

    def set_many(self, c: SetMany) -> object:
        for _, value in dict(c.pairs).items():
            self.fit(value)
        if c.nx and any(self.visible(key) for key, _ in c.pairs):
            return False
        for key, value in dict(c.pairs).items():
            self.write(key, value, None)
        return True

    def rename(self, c: Rename) -> object:
        row = self.visible(c.source)
        if not row:
            raise Refused("key_not_found")
        if c.nx and self.visible(c.destination):
            raise Refused("key_exists")
        if c.source != c.destination:
            self.write(c.destination, row[0], row[1])
            self.erase(c.source)
        return True

    def copy(self, c: Copy) -> object:
        row = self.visible(c.source)
        if not row:
            raise Refused("key_not_found")
        if self.visible(c.destination) and not c.replace:
            raise Refused("key_exists")
        if c.source != c.destination:
            self.write(c.destination, row[0], row[1])
        return True

    def flush(self, c: Flush) -> object:
        number = len(self.visible_keys())
        if self.rows:
            self.offset += 1
            self.rows.clear()
        return number

    def fit(self, value: bytes | bytearray) -> None:
        if len(value) > LIMIT:
            raise Refused("value_too_large")


keys = st.sampled_from([b"a", b"ab", b"abc", b"b", b"\xff", b"\xff\xff"])
integers = st.sampled_from([b"0", b"7", b"-3", b"9223372036854775807", b"-9223372036854775808"])
values = st.binary(max_size=5) | integers | st.binary(min_size=LIMIT, max_size=LIMIT + 1)
amounts = st.integers(-5, 5) | st.sampled_from([2**63 - 1, -(2**63)])
# In steps, so that the clock often stands on a deadline.
times = st.integers(-6, 18).map(lambda steps: START_MS + steps * 500)
versions = (
    st.none()
    | st.just(ABSENT)
    | st.builds(Place, st.integers(0, 12), st.sampled_from([*TAGS, "12345678", UNKNOWN_TAG]))
)
commands = st.one_of(
    st.builds(
        Set, keys, values, st.none() | times,
        *[st.booleans()] * 4, versions,
    ),
    st.builds(Set, keys, values, times),
    st.builds(Delete, st.lists(keys, max_size=3).map(tuple), st.none()),
    st.builds(Delete, st.lists(keys, max_size=2).map(tuple), versions),
    st.builds(Increment, keys, amounts),
    st.builds(IncrementFloat, keys, st.sampled_from([0.5, -3.0, 1e300, -0.25])),
    st.builds(Append, keys, values),
    st.builds(SetRange, keys, st.integers(-1, LIMIT), values),
    st.builds(GetSet, keys, values),
    st.builds(Expire, keys, times),
    st.builds(Persist, keys),
    st.builds(SetMany, st.lists(st.tuples(keys, values), max_size=3).map(tuple), st.booleans()),
    st.builds(Rename, keys, keys, st.booleans()),
    st.builds(Copy, keys, keys, st.booleans()),
    st.builds(Flush),
)  # fmt: skip
batches = st.lists(commands, min_size=1, max_size=5)


class CommandsOnStore(RuleBasedStateMachine):
    """Drives both, and keeps the frames that the log would have got."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="synap-test-")
        self.store = Store.prepare(Path(self.folder.name, "master"), MAP_BYTES)
        self.reader: StoreReader = self.store.reader()
        self.model = Model()
        self.frames: list[tuple[int, list[Entry]]] = []

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            assert self.replay() == self.reader.digest()
        finally:
            self.store.close(clean=False)
            self.folder.cleanup()

    @rule(now_ms=times)
    def move_clock(self, now_ms: int) -> None:
        self.model.now = now_ms

    @rule(batch=batches)
    def commit(self, batch: list[Command]) -> None:
        transaction = self.store.begin(REIGNS)
        for command in batch:
            self.compare(command, transaction, self.model)
        self.end(transaction)

    @rule(batch=batches)
    def abort(self, batch: list[Command]) -> None:
        transaction = self.store.begin(REIGNS)
        scratch = self.model.clone()
        for command in batch:
            self.compare(command, transaction, scratch)
        transaction.abort()

    @rule()
    def sweep(self) -> None:
        transaction = self.store.begin(REIGNS)
        due = self.store.due(self.model.now, 100)
        gone = [
            (row[1], key) for key, row in self.model.rows.items() if not self.model.visible(key)
        ]
        assert due == [key for _, key in sorted(gone)]
        for key in due:
            # The model erases in the order of the index, so that versions stay equal.
            self.model.erase(key)
            transaction.remove(key)
        self.end(transaction)

    @invariant()
    def single_keys_read_as_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        for key in [b"a", b"ab", b"abc", b"b", b"\xff", b"\xff\xff", b"never"]:
            record, end = self.reader.get(key)
            assert end.offset == self.model.offset
            row = self.model.visible(key)
            assert is_live(record, self.model.now) is (row is not None)
            if record is None or row is None:
                continue
            assert (record.value, record.version) == (row[0], row[2])
            left = None if row[1] is None else (row[1] - self.model.now) // 1000
            assert ttl_seconds(record, self.model.now) == left
            assert slice_range(record.value, 1, -2) == row[0][1:-1]

    @invariant()
    def pages_and_counts_read_as_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        visible = self.model.visible_keys()
        assert self.reader.count(self.model.now) == len(visible)
        assert self.pages(b"", None) == visible
        assert self.pages(b"a", b"*b*") == [
            key for key in visible if fnmatchcase(key.decode("latin-1"), "a*b*")
        ]
        assert (self.reader.random_key(self.model.now) in visible) is bool(visible)
        deadlines = [(row[1], key) for key, row in self.model.rows.items() if row[1] is not None]
        assert self.store.due(END_OF_TIME, 100) == [key for _, key in sorted(deadlines)]

    def compare(self, command: Command, transaction: WriteTransaction, model: Model) -> None:
        before = len(transaction.entries)
        expected = outcome(lambda: model.run(command))
        result = outcome(lambda: command.evaluate(transaction, model.now, Limits(LIMIT)))
        if isinstance(result, SetResult):
            result = (result.written, result.version, result.old)
        assert result == expected
        assert type(result) is type(expected)
        if isinstance(result, str):
            assert len(transaction.entries) == before

    def end(self, transaction: WriteTransaction) -> None:
        if not transaction.entries:
            transaction.abort()
            return
        first = self.store.applied.position.offset + 1
        self.frames.append((first, list(transaction.entries)))
        offset = first + len(transaction.entries) - 1
        transaction.set_applied(Applied(Position(1, offset, 0), 1, 0, self.model.now))
        transaction.commit()

    def pages(self, prefix: bytes, pattern: bytes | None) -> list[bytes]:
        found: list[bytes] = []
        cursor: bytes | None = None
        while True:
            page = self.reader.scan(
                prefix, cursor, 2, self.model.now, pattern=pattern, max_visited=3
            )
            found += page.keys
            if page.next is None:
                return found
            assert len(page.keys) <= 2
            assert cursor is None or page.next > cursor
            cursor = page.next

    def replay(self) -> tuple[int, int, str]:
        """Apply all frames to a second store, in one transaction, and return its digest."""
        replica = Store.prepare(Path(self.folder.name, "replica"), MAP_BYTES)
        try:
            transaction = replica.begin()
            for first, entries in self.frames:
                transaction.apply(entries, first)
            transaction.set_applied(self.store.applied)
            transaction.commit()
            assert replica.due(END_OF_TIME, 100) == self.store.due(END_OF_TIME, 100)
            return replica.reader().digest()
        finally:
            replica.close(clean=False)


CommandsOnStore.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# A failure is made smaller for minutes before it is shown.
test_commands_on_the_store_agree_with_a_dict = pytest.mark.timeout(600)(CommandsOnStore.TestCase)
