"""A slot of a thousand keys that moves under load, with kills of each party at each step.

Both clusters' nodes, the proxy and the mover are killed (`make chaos` alone; the short form is
`tests/system/test_slots.py`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from synap.slots import slot_of
from tests.chaos.length import IS_LONG
from tests.shards import HAPROXY, Shards, Writes, shards, tag_in
from workers.cli.http_call import CallFailed
from workers.cli.slot_move import MoveFailed
from workers.cli.slots import HttpCalls

pytestmark = [
    pytest.mark.skipif(not IS_LONG or HAPROXY is None, reason="a part of make chaos"),
    pytest.mark.timeout(1800),
]

_KEYS = 1000
_STEPS = ("come", "export", "import", "watch", "freeze", "fill", "give", "take", "clear")


class Killed(Exception):
    """The mover is gone."""


class Bombed(HttpCalls):
    """Calls of a mover that kills somebody at one of its steps, after it or before."""

    def __init__(self, both: Shards, step: str, victim: str, *, is_after: bool) -> None:
        self._both = both
        self._step = step
        self._victim = victim
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
        if self._victim == "mover":
            raise Killed
        if self._victim == "proxy":
            self._both.proxy.kill()
            # As a supervisor would, with what the map's file has by then.
            self._both.proxy.start()
            return
        node = self._both.nodes[self._victim]
        node.kill()
        node.start()


def move(both: Shards, slot: int, way: list[str], bomb: Bombed) -> None:
    """Move a slot, as often as it takes; what broke once does not break again."""
    for calls in (bomb, None, None, None):
        try:
            both.move(slot, way[0], way[1], calls).run()
        except (Killed, CallFailed, MoveFailed, OSError):
            continue
        return
    raise AssertionError("the move came to no end")


def test_slot_moves_whoever_is_killed_at_whatever_step(tmp_path: Path) -> None:
    with shards(tmp_path) as both:
        tag = tag_in(0, 511, 3)
        slot = slot_of(tag.encode())
        kept = {f"{{{tag}}}kept {number}": f"v{number}" for number in range(_KEYS)}
        pairs = [{"key": key, "value": value} for key, value in kept.items()]
        body = json.dumps({"pairs": pairs[:1]}).encode()
        assert both.proxy.request("POST", "/kv/mset", body).status == 200
        body = json.dumps({"pairs": pairs}).encode()
        assert both.proxy.request("POST", "/kv/mset", body).status == 200
        way, rounds = ["a", "b"], 0
        with Writes(both.proxy, tag, time.monotonic) as writes:
            for step in _STEPS:
                for victim in ("mover", *way, "proxy"):
                    for is_after in (False, True):
                        bomb = Bombed(both, step, victim, is_after=is_after)
                        move(both, slot, way, bomb)
                        both.proxy.rewrite(slot, way[1])
                        way.reverse()
                        rounds += 1
        assert (kept | writes.acknowledged).items() <= both.keys(way[0]).items()
        assert not [key for key in both.keys(way[1]) if key.startswith(f"{{{tag}}}")]
        print(f"{rounds} moves, {len(writes.acknowledged)} writes acknowledged")
