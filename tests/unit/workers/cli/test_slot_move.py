"""A slot's move between two clusters in memory, each of which may lose the end of its log.

What a cluster decides is its real command; what a fail-over loses is all that no step has waited
for, as where each step waits for the replicas that its cluster has.
"""

from __future__ import annotations

import copy
import json
from itertools import count
from urllib.parse import parse_qs, urlsplit

import pytest

from synap.commands.keyspace import Limits
from synap.commands.slots import ChangeSlot, ClearSlot, decode_slot, slot_record
from synap.frame import Cause
from synap.place import UNKNOWN_TAG, Place, parse_place
from synap.slots import slot_of
from tests.unit.commands.test_commands import Keys
from workers.cli.http_call import CallRefused
from workers.cli.slot_move import Cluster, MoveFailed, SlotMove

SLOT = slot_of(b"t")
LIMITS = Limits(max_value_bytes=1000)
FAULTS = ["source fails over", "target fails over", "freeze ends", "both fail over"]


class Log(Keys):
    """A cluster's keyspace with its log: the state after each entry, and who wrote that."""

    def __init__(self) -> None:
        super().__init__()
        self._versions = count(1)
        self.reign = 1
        self.held = 0
        self.entries: list[tuple[str, dict, dict, dict]] = []

    @property
    def end(self) -> int:
        return len(self.entries)

    def tag_of(self, version: int) -> str:
        at = min(version, self.end + 1)
        return self.entries[at - 1][0] if at <= self.end else f"{self.reign:08x}"

    def token(self, offset: int) -> str:
        return f"{offset}-{self.tag_of(offset) if offset else UNKNOWN_TAG}"

    def put(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        version = super().put(key, value, expiry_ms)
        self._log({"op": "set", "key": key.decode(), "value": value.decode()})
        return version

    def remove(self, key: bytes, cause: Cause = Cause.CLIENT) -> None:
        if key in self.records:
            super().remove(key)
            next(self._versions)
            self._log({"op": "del", "key": key.decode()})

    def put_account(self, key: bytes, value: bytes) -> None:
        super().put_account(key, value)
        self._log({})

    def remove_account(self, key: bytes) -> None:
        if key in self.accounts:
            super().remove_account(key)
            next(self._versions)
            self._log({})

    def fail_over(self) -> None:
        """Lose what no replica is known to hold, and let another node write."""
        del self.entries[self.held :]
        last = self.entries[-1] if self.entries else ("", {}, {}, {})
        self.records, self.accounts = copy.copy(last[1]), copy.copy(last[2])
        self._versions = count(self.end + 1)
        self.reign += 1

    def _log(self, change: dict) -> None:
        tag = f"{self.reign:08x}"
        state = copy.copy(self.records), copy.copy(self.accounts)
        self.entries.append((tag, *state, change))


class Server:
    """A cluster as a move knows it, by its HTTP API."""

    def __init__(self, name: str, *, has_all: bool) -> None:
        self.name = name
        self.has_all = has_all
        self.log = Log()

    def is_own(self) -> bool:
        record = self.record()
        return self.has_all if record is None else record.state in ("moving", "taken")

    def record(self):
        stored = self.log.accounts.get(slot_record(SLOT))
        return None if stored is None else decode_slot(stored.value)

    def write(self, key: str, value: str) -> bool:
        """Set a key as a client does; say whether that was taken."""
        record = self.record()
        if not self.is_own() or (record is not None and record.state == "moving"):
            return False
        self.log.put(key.encode(), value.encode(), 0)
        return True

    def get(self, path: str) -> dict:
        parts = urlsplit(path)
        if parts.path == "/health/replication":
            return {"role": "master", "replicas": [{"status": "ok"}]}
        if parts.path == "/cluster/slots/requests":
            return {"records": [], "next": None}
        if parts.path == "/watch":
            return self._changes(parse_place(parse_qs(parts.query)["from"][0]))
        record, moved = self.record(), []
        if record is not None:
            moved = [{"slot": SLOT, "state": record.state, "is_own": self.is_own(),
                      "cluster": record.cluster, "freeze": record.freeze or None,
                      "is_cleared": record.is_cleared}]  # fmt: skip
        slots = [{"cluster": self.name, "slots": "0-1023"}] if self.has_all else []
        return {"cluster": self.name, "slots": slots, "moved": moved}

    def post(self, path: str, body: bytes) -> dict:
        log = self.log
        if path == "/kv/import":
            for line in map(json.loads, body.splitlines()):
                log.put(line["key"].encode(), line["value"].encode(), 0)
            return {}
        asked = json.loads(body)
        if path.endswith("/clear"):
            keys = tuple(key.encode() for key in asked["keys"])
            return {"removed": ClearSlot(SLOT, keys).evaluate(log, 0, LIMITS)}
        places = {name: parse_place(asked.pop(name)) for name in ("freeze", "come")
                  if asked.get(name)}  # fmt: skip
        is_done = ChangeSlot(**(asked | places)).evaluate(log, 0, LIMITS)
        log.held = log.end
        return {"done": is_done, "position": log.token(log.end)}

    def lines(self) -> list[bytes]:
        found = [{"key": key.decode(), "value": record.value.decode()}
                 for key, record in self.log.records.items()]  # fmt: skip
        told = [{"position": self.log.token(self.log.end)}, *found, {"end": True}]
        return [json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in told]

    def _changes(self, place: Place) -> dict:
        if place.offset > self.log.end or str(place) != self.log.token(place.offset):
            raise CallRefused("reset", facts={"oldest": ""})
        changes = [entry[3] for entry in self.log.entries[place.offset :] if entry[3]]
        events = [{"changes": changes}] if changes else []
        return {"events": events, "next": self.log.token(self.log.end), "more": False}


class Both:
    """Two clusters and a client that writes beside all that a mover does; the calls of one."""

    def __init__(self) -> None:
        self.a, self.b = Server("a", has_all=True), Server("b", has_all=False)
        self.faults: dict[int, str] = {}
        self.calls = 0
        self._number = 0
        for _ in range(5):
            self.client_writes()

    def client_writes(self) -> None:
        self._number += 1
        if not self.a.write(f"{{t}}{self._number % 7}", str(self._number)):
            self.b.write(f"{{t}}{self._number % 7}", str(self._number))

    def get(self, url, path, *_):
        return self._around(url, lambda server: server.get(path))

    def post(self, url, path, body, *_):
        return self._around(url, lambda server: server.post(path, body))

    def lines(self, url, *_):
        return iter(self._around(url, Server.lines))

    def _around(self, url, ask):
        self.client_writes()
        answer = ask(self.a if url == "a" else self.b)
        self._break(self.faults.get(self.calls, ""))
        self.calls += 1
        self.client_writes()
        return answer

    def _break(self, fault: str) -> None:
        if fault in ("source fails over", "both fail over"):
            self.a.log.fail_over()
        if fault in ("target fails over", "both fail over"):
            self.b.log.fail_over()
        if fault == "freeze ends":
            ChangeSlot(SLOT, "thaw").evaluate(self.a.log, 0, LIMITS)

    def mover(self) -> SlotMove:
        clusters = [Cluster(self, [name], SLOT, sleep=lambda _: None) for name in "ab"]
        return SlotMove(*clusters, SLOT, target_url="b", tell=lambda _: None, switch=self._switch)

    def _switch(self, name: str) -> None:
        """Note what the new cluster must hold when the old one's keys go."""
        assert (name, self.b.is_own(), self.a.is_own()) == ("b", True, False)


def values_when(server: Server, state: str) -> dict[bytes, bytes]:
    """Return a cluster's keys as they were when the slot first stood so."""
    for _, records, accounts, _ in server.log.entries:
        stored = accounts.get(slot_record(SLOT))
        if stored is not None and decode_slot(stored.value).state == state:
            return {key: record.value for key, record in records.items()}
    raise AssertionError(f"it never was {state}")


def moved_calls() -> int:
    both = Both()
    both.mover().run()
    return both.calls


CALLS = moved_calls()


@pytest.mark.parametrize("fault", FAULTS)
def test_slot_is_moved_whole_whatever_fails_over_at_whatever_call(fault):
    for at in range(CALLS):
        both = Both()
        both.faults[at] = fault
        for _ in range(3):
            try:
                both.mover().run()
                break
            except MoveFailed:
                continue
        else:
            pytest.fail(f"the move came to no end after {fault} at call {at}")
        kept = values_when(both.a, "given")
        assert values_when(both.b, "taken") == kept, (fault, at)
        # A fail-over may bring the old copies back, which nobody is served.
        both.mover().run()
        assert not both.a.log.records


def test_slot_whose_new_cluster_lost_it_before_taking_it_is_copied_anew():
    both = Both()
    mover = both.mover()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "post", _dies_at_take(Server.post))
        with pytest.raises(KeyboardInterrupt):
            mover.run()
    both.b.log.held = 0
    both.b.log.fail_over()
    both.mover().run()
    assert values_when(both.b, "taken") == values_when(both.a, "given")


def _dies_at_take(post):
    def die(server, path, body):
        if b'"take"' in body:
            raise KeyboardInterrupt
        return post(server, path, body)

    return die


def test_slot_whose_copies_are_gone_is_not_taken_empty():
    both = Both()
    both.mover().run()
    both.b.log.held = 0
    both.b.log.fail_over()
    with pytest.raises(MoveFailed, match="restore a backup"):
        both.mover().run()


def test_slot_that_both_have_is_not_moved():
    both = Both()
    both.mover().run()
    both.a.log.held = 0
    both.a.log.fail_over()
    with pytest.raises(MoveFailed, match="both clusters say"):
        both.mover().run()
