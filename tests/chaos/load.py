"""A load of writes whose acknowledgements are kept outside the node, to be checked after a crash.

Each writer is a thread with a connection and with units of its own: a unit is one key written by
set, or a few written together by mset, always with the next number of its writer. What the node
must hold afterwards follows from the answers:

    acknowledged           exactly this value, until a later one is acknowledged
    refused as retryable   nothing changed
    no answer,
    `outcome_unknown`, or
    across a power cut     the old or the new value; in a unit of several keys, the same in each

A write without an answer may take effect late, so its unit is retired: the writer never touches it
again and goes on with a fresh one. So each unit has at most one write in doubt, its last.

A cut of the power is a moment, and nobody hears an answer after it. A test's cut takes some time,
in which the machine runs on, and its answers are no promise: see `Cut`.
"""

from __future__ import annotations

import http.client
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ops.client import Answer, Client, UnexpectedAnswer

WRITERS = 4
_SINGLE_UNITS = 40
_GROUP_UNITS = 10
_KEYS_IN_GROUP = 4
_KEYS_A_READ = 400
# Longer than server.write_timeout_ms, so that the node answers first where it can.
_TIMEOUT_SECONDS = 8.0
_BACK_OFF_SECONDS = 0.01
# Leaves the processors to the node, which shares them.
_READ_PAUSE_SECONDS = 0.002

# Nothing changed where such an answer says that the request may be sent again.
_REFUSALS = (http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.INSUFFICIENT_STORAGE)

_NO_ANSWER = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Cut:
    """The time that it takes to cut off a disk under a machine that runs on.

    Shutting down an ext4 (EXT4_IOC_SHUTDOWN without a flush of its journal) makes every sync that
    begins afterwards fail. One that is under way may return 0 without its data: the journal's
    commit that it needs is given up, and where that is over by the time the sync looks for it,
    the kernel takes it for done (jbd2_complete_transaction looks for an aborted journal only where
    it has to wait). A node that is told so acknowledges the write, as it must. With the real power
    the processor stops too.

    Attributes:
        began: Monotonic time just before it.
        ended: Monotonic time just after it.
    """

    began: float
    ended: float = math.inf

    def leaves_open(self, sent: float, received: float) -> bool:
        """Say whether an answer is no promise, because the cut lies between it and its request.

        What is sent after the end and acknowledged must be there: no sync succeeds any more.
        """
        return received >= self.began and sent <= self.ended


_NO_CUT = Cut(math.inf)


@dataclass(slots=True)
class Unit:
    """Keys that are always written together, with the same number.

    Attributes:
        keys: At least one.
        acknowledged: The number of the last acknowledged write; None before the first.
        in_doubt: The number of a later write whose outcome is unknown.
    """

    keys: tuple[str, ...]
    acknowledged: int | None = None
    in_doubt: int | None = None

    def fault(self, values: Sequence[int | None]) -> str:
        """Say what is wrong with the values that its keys hold; empty where nothing is."""
        allowed = {self.acknowledged}
        if self.in_doubt is not None:
            allowed.add(self.in_doubt)
        if len(set(values)) > 1:
            return f"half written: {self.keys} hold {values}"
        if values[0] in allowed:
            return ""
        return f"lost: {self.keys} hold {values[0]}, acknowledged was {self.acknowledged}"


class Writer:
    """One thread of the load.

    Attributes:
        units: Every unit it ever wrote, the retired ones too.
        groups: The units of several keys in use, for readers that look for half a write.
        acknowledged: Number of acknowledged writes.
        refused: Number of writes that the node refused without changing anything.
        last_success: Monotonic time at which the last acknowledged write was sent.
        cut: The last cut of the disk that the promises rest on, perhaps under way.
        unexpected: What no node should answer, in words.
    """

    def __init__(self, url: str, name: str) -> None:
        self.units: list[Unit] = []
        self.acknowledged = 0
        self.refused = 0
        self.last_success = 0.0
        self.cut = _NO_CUT
        self.unexpected: list[str] = []
        self._url = url
        self._name = name
        self._number = 0
        self._last_offset = 0
        self._in_use = [
            *(self._new_unit(1) for _ in range(_SINGLE_UNITS)),
            *(self._new_unit(_KEYS_IN_GROUP) for _ in range(_GROUP_UNITS)),
        ]

    @property
    def groups(self) -> list[Unit]:
        return self._in_use[_SINGLE_UNITS:]

    def run(self, should_stop: threading.Event) -> None:
        """Write until told to stop, to every unit in turn."""
        with Client(self._url, _TIMEOUT_SECONDS) as client:
            while not should_stop.is_set():
                self._number += 1
                place = self._number % len(self._in_use)
                unit = self._in_use[place]
                if not self._write(client, unit):
                    should_stop.wait(_BACK_OFF_SECONDS)
                if unit.in_doubt is not None:
                    self._in_use[place] = self._new_unit(len(unit.keys))

    def _write(self, client: Client, unit: Unit) -> bool:
        """Write the next number to `unit` and note the outcome; say whether it is acknowledged."""
        sent = time.monotonic()
        try:
            answer = _send(client, unit.keys, str(self._number))
        except ConnectionRefusedError:
            return False
        except _NO_ANSWER:
            unit.in_doubt = self._number
            return False
        received = time.monotonic()
        if answer.status == http.HTTPStatus.OK:
            if self.cut.leaves_open(sent, received):
                unit.in_doubt = self._number
                return False
            unit.acknowledged = self._number
            self._note_success(answer, sent)
            return True
        if _is_refusal(answer):
            self.refused += 1
        else:
            unit.in_doubt = self._number
            if answer.status not in _REFUSALS:
                self.unexpected.append(f"{answer.status} for a write: {answer.body!r}")
        return False

    def _note_success(self, answer: Answer, sent: float) -> None:
        offset = int(answer.headers["X-Synap-Offset"])
        if offset <= self._last_offset:
            self.unexpected.append(f"offset {offset} was acknowledged after {self._last_offset}")
        self._last_offset = offset
        self.acknowledged += 1
        self.last_success = sent

    def _new_unit(self, size: int) -> Unit:
        prefix = f"{self._name}:{len(self.units)}"
        unit = Unit(tuple(f"{prefix}:{number}" for number in range(size)))
        self.units.append(unit)
        return unit


class Reader:
    """One thread that reads what the writers write and never finds half of it.

    Attributes:
        reads: Number of answered reads.
        failures: What was not answered with 200, or held half a write.
    """

    def __init__(self, url: str, writers: Sequence[Writer]) -> None:
        self.reads = 0
        self.failures: list[str] = []
        self._url = url
        self._writers = writers

    def run(self, should_stop: threading.Event) -> None:
        """Read until told to stop."""
        with Client(self._url, _TIMEOUT_SECONDS) as client:
            while not should_stop.is_set():
                for writer in self._writers:
                    for unit in writer.groups:
                        self._read(client, unit)
                        should_stop.wait(_READ_PAUSE_SECONDS)

    def _read(self, client: Client, unit: Unit) -> None:
        try:
            values = client.post("/kv/mget", {"keys": unit.keys})["values"]
        except (*_NO_ANSWER, UnexpectedAnswer) as error:
            self.failures.append(repr(error))
            return
        self.reads += 1
        if len(set(values)) != 1:
            self.failures.append(f"half written: {unit.keys} hold {values}")


class Load:
    """Writers and a reader against one node; may be started and stopped several times.

    Args:
        url: The node that takes the writes.
        name: Beginning of every key, so that several loads can share a node.
    """

    def __init__(self, url: str, name: str = "load") -> None:
        self.writers = [Writer(url, f"{name}:{number}") for number in range(WRITERS)]
        self.reader = Reader(url, self.writers)
        self._url = url
        self._should_stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, or go on after a stop."""
        self._should_stop.clear()
        runs = [*(writer.run for writer in self.writers), self.reader.run]
        self._threads = [
            threading.Thread(target=run, args=(self._should_stop,), daemon=True) for run in runs
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End every thread, after the answer that it waits for."""
        self._should_stop.set()
        for thread in self._threads:
            thread.join()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut off, in the block, the one disk that makes writes durable; see `Cut`."""
        began = time.monotonic()
        self._note(Cut(began))
        try:
            yield
        finally:
            self._note(Cut(began, time.monotonic()))

    def _note(self, cut: Cut) -> None:
        for writer in self.writers:
            writer.cut = cut

    @property
    def acknowledged(self) -> int:
        """Number of acknowledged writes so far."""
        return sum(writer.acknowledged for writer in self.writers)

    @property
    def refused(self) -> int:
        """Number of refused writes so far."""
        return sum(writer.refused for writer in self.writers)

    def has_acknowledged(self, count: int) -> bool:
        """Say whether `count` writes or more were acknowledged so far."""
        return self.acknowledged >= count

    def succeeds_since(self, moment: float) -> bool:
        """Say whether every writer had a write acknowledged that it sent after `moment`."""
        return all(writer.last_success > moment for writer in self.writers)

    def faults(self) -> list[str]:
        """Compare what the node holds with what it acknowledged; call while stopped."""
        faults = [fault for writer in self.writers for fault in writer.unexpected]
        with Client(self._url) as client:
            for units in _batches([unit for writer in self.writers for unit in writer.units]):
                values = _read_numbers(client, [key for unit in units for key in unit.keys])
                found = (unit.fault([next(values) for _ in unit.keys]) for unit in units)
                faults += filter(None, found)
        return faults


def _send(client: Client, keys: Sequence[str], value: str) -> Answer:
    if len(keys) == 1:
        return client.send("POST", "/kv/set", {"key": keys[0], "value": value})
    pairs = [{"key": key, "value": value} for key in keys]
    return client.send("POST", "/kv/mset", {"pairs": pairs})


def _is_refusal(answer: Answer) -> bool:
    return answer.status in _REFUSALS and answer.json()["retryable"] is True


def _batches(units: list[Unit]) -> Iterator[list[Unit]]:
    step = _KEYS_A_READ // _KEYS_IN_GROUP
    for start in range(0, len(units), step):
        yield units[start : start + step]


def _read_numbers(client: Client, keys: list[str]) -> Iterator[int | None]:
    values: list[Any] = client.post("/kv/mget", {"keys": keys})["values"]
    return iter([None if value is None else int(value) for value in values])
