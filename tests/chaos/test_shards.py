"""Three clusters with 100,000 keys behind the shipped HAProxy, and a slot that moves between them.

The slot of a thousand keys moves under load, with kills of each party (both clusters' nodes, the
proxy, the mover) before and after each step, from cluster to cluster (`make chaos` alone; the short
form is `tests/system/test_slots.py`). What a fail-over to another node loses is played in
`tests/unit/workers/cli/test_slot_move.py`.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from hashlib import sha256
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest

from synap.slots import slot_of
from tests.chaos.length import IS_LONG
from tests.shards import HAPROXY, Shards, Writes, shards, tag_in
from tests.support import eventually
from workers.cli.http_call import CallFailed
from workers.cli.slot_move import MOVED_SLOT, MoveFailed
from workers.cli.slots import HttpCalls

pytestmark = [
    pytest.mark.skipif(not IS_LONG or HAPROXY is None, reason="a part of make chaos"),
    pytest.mark.timeout(3600),
]

_KEYS, _OF_SLOT, _LARGE = 100_000, 1000, 200
_FORMS = ("plain %d", "{tag%d}x", "a{tag%d}b{c}", "ü{ö%d}", "a%%2Fb%d", "a/b+c ?#%d", "{}x%d")
_STEPS = (
    "come", "export", "import", "watch", "freeze", "fill", "give", "requests", "take", "clear",
)  # fmt: skip
_FREE_MOVES = 6


class Killed(Exception):
    """The mover is gone."""


class Bombed(HttpCalls):
    """Calls of a mover that kills somebody at one of its steps, after it or before.

    Attributes:
        victim: Who is killed: `mover`, `proxy`, or a cluster.
    """

    def __init__(self, all_: Shards, step: str, victim: str, *, is_after: bool) -> None:
        self._all = all_
        self._step = step
        self.victim = victim
        self._is_after = is_after

    def get(self, *args):
        return self._around(args[1], b"", super().get, args)

    def post(self, *args):
        return self._around(args[1], args[2], super().post, args)

    def lines(self, *args):
        return self._around(args[1], b"", super().lines, args)

    def _around(self, path, body, call, args):
        is_now = self._step and (
            f"/{self._step}" in path or f'"step": "{self._step}"'.encode() in body
        )
        if not is_now:
            return call(*args)
        self._step = ""
        if not self._is_after:
            self._kill()
        answer = call(*args)
        if self._is_after:
            self._kill()
        return answer

    def _kill(self) -> None:
        if self.victim == "mover":
            raise Killed
        if self.victim == "proxy":
            self._all.proxy.kill()
            # As a supervisor would, with what the map's file has by then.
            self._all.proxy.start()
            return
        node = self._all.nodes[self.victim]
        node.kill()
        node.start()


def move(all_: Shards, slot: int, way: tuple[str, str], bomb: Bombed) -> None:
    """Move a slot, as often as it takes; what broke once does not break again."""
    for calls in (bomb, None, None, None):
        try:
            all_.move(slot, *way, calls).run()
        except (Killed, CallFailed, MoveFailed, OSError):
            continue
        all_.proxy.rewrite(slot, way[1])
        if bomb.victim == "proxy":
            # It may have read a map from before the switch, as an operator sees by `slots show`.
            all_.move(slot, *way).run()
        return
    raise AssertionError("the move came to no end")


def keys_and_values(tag: str) -> dict[str, str]:
    """Return what all clusters have together: keys of all forms, some with large values."""
    kept = {_FORMS[number % len(_FORMS)] % number: f"v{number}" for number in range(_KEYS)}
    for key in list(kept)[:_LARGE]:
        kept[key] = key[-1] * 65_536
    return kept | {f"{{{tag}}}kept {number}": f"v{number}" for number in range(_OF_SLOT)}


def fill(all_: Shards, kept: dict[str, str]) -> None:
    """Write keys at the clusters that have them, a slot at a time."""
    by_slot: dict[int, list[bytes]] = defaultdict(list)
    for key, value in kept.items():
        line = json.dumps({"key": key, "value": value}).encode() + b"\n"
        by_slot[slot_of(key.encode())].append(line)
    for slot, lines in by_slot.items():
        node = all_.nodes[all_.owners[slot]]
        headers = {MOVED_SLOT: str(slot)}
        assert node.request("POST", "/kv/import", b"".join(lines), headers).status == 200


def union(all_: Shards) -> tuple[int, str]:
    """Return how many keys all clusters have, and a digest of keys and values; none is twice."""
    held: dict[str, str] = {}
    for name in all_.nodes:
        found = all_.keys(name)
        assert not held.keys() & found.keys(), "keys are at two clusters"
        held |= found
    digest = sha256(json.dumps(sorted(held.items())).encode()).hexdigest()
    return len(held), digest


class Ring:
    """A slot that goes from each cluster to the next.

    Attributes:
        names: The clusters, that which has the slot first.
    """

    def __init__(self, all_: Shards, tag: str) -> None:
        self.names = list(all_.nodes)
        self._all = all_
        self._slot = slot_of(tag.encode())

    def free_moves(self) -> float:
        """Move it some times while nobody is killed; return for how long writes were away."""
        away = []
        for _ in range(_FREE_MOVES):
            away.append(self._all.move(self._slot, *self.names[:2]).run())
            self._all.proxy.rewrite(self._slot, self.names[1])
            self._turn()
        return max(away)

    def moves_with_kills(self) -> int:
        """Move it once for each party, at each step, before and after it; return how often."""
        rounds = 0
        for step, party, is_after in product(
            _STEPS, ("mover", "source", "target", "proxy"), (False, True)
        ):
            victim = {"source": self.names[0], "target": self.names[1]}.get(party, party)
            bomb = Bombed(self._all, step, victim, is_after=is_after)
            move(self._all, self._slot, (self.names[0], self.names[1]), bomb)
            self._turn()
            rounds += 1
        return rounds

    def _turn(self) -> None:
        self.names.append(self.names.pop(0))


def remove_written(all_: Shards, name: str, tag: str, kept: dict[str, str]) -> None:
    """Remove what the load has written."""
    for key in all_.keys(name):
        if key.startswith(f"{{{tag}}}") and key not in kept:
            assert all_.proxy.request("DELETE", f"/kv/del/{quote(key, safe='')}").status == 200


def test_slot_moves_whoever_is_killed_at_whatever_step(tmp_path: Path) -> None:
    with shards(tmp_path, ("a", "b", "c")) as all_:
        tag = tag_in(0, 340, 3)
        kept = keys_and_values(tag)
        fill(all_, kept)
        before = union(all_)
        for key in random.Random(1).sample(sorted(kept), 1000):
            told = all_.proxy.request("GET", f"/raw/{quote(key, safe='')}")
            assert told.body.decode() == kept[key], key
        ring = Ring(all_, tag)
        with Writes(all_.proxy, tag, time.monotonic) as writes:
            eventually(lambda: len(writes.acknowledged) > 20)
            away = ring.free_moves()
            slowest = writes.longest_seconds
            rounds = ring.moves_with_kills()
        assert writes.acknowledged.items() <= all_.keys(ring.names[0]).items()
        for name in ring.names[1:]:
            assert not [key for key in all_.keys(name) if key.startswith(f"{{{tag}}}")]
        remove_written(all_, ring.names[0], tag, kept)
        assert union(all_) == before
        assert slowest < 2
        print(f"{before[0]} keys in all, digest {before[1][:16]} before and after")
        print(f"{_FREE_MOVES} moves: writes away {away:.3f} s, {slowest:.3f} s between answers")
        print(f"{rounds} moves with kills; {len(writes.acknowledged)} writes acknowledged")
