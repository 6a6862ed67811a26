"""A follower's life as text: what happens, a line of dashes, and what it says to that.

Each file in `testdata` is one life. A block's first part are the steps, one a line; the second part
is what the follower sends at them, and behind `=` how it stands and where its log ends. Lines that
begin with `#` are remarks.

Source: after etcd raft's `testdata` and its `datadriven` tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from synap.replication.rules.messages import Ack, Credit, Fetch, Hello, Refusal, Request
from tests.unit.replication.rules.follower_bench import FRAMES, SECOND_NS, Bench

FOLDER = Path(__file__).parent / "testdata"
SCENARIOS = sorted(FOLDER.glob("follower_*.txt"))


def do(bench: Bench, step: str) -> None:
    """Let one thing happen; `docs/protocol.md` has the messages."""
    match step.split():
        case ["heartbeat", end]:
            bench.beat(int(end))
        case ["stream", *offsets]:
            bench.publish(*(FRAMES[int(offset) - 1] for offset in offsets))
        case ["welcome", end]:
            bench.welcome(int(end))
        case ["refusal", reason]:
            bench.receive(Refusal(reason))
        case ["chunk", number, "of", "fetch", request, "with", *offsets, "more" | "end" as rest]:
            frames = [FRAMES[int(offset) - 1] for offset in offsets]
            bench.chunk(int(request), int(number), frames, rest == "end")
        case ["settle"]:
            bench.follower.settle(bench.now_ns)
        case ["seconds", count]:
            bench.now_ns += int(count) * SECOND_NS
            bench.follower.tick(bench.now_ns)
        case ["lost", *reason]:
            bench.follower.disconnect(" ".join(reason))
        case ["link"]:
            bench.follower.connect(bench.now_ns)
        case _:
            raise AssertionError(f"no such step: {step}")


def told(request: Request) -> str:
    """Return a request as a line."""
    match request:
        case Hello(position=position):
            return f"hello, the log ends at {position.offset}"
        case Fetch(request=number, after_offset=after, until_offset=until):
            return f"fetch {number}: {after + 1} to {until}"
        case Credit(request=number):
            return f"credit for fetch {number}"
        case Ack(offset=offset, state=state):
            return f"ack {offset} {state}"
    raise AssertionError(f"no line for {request}")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_follower_says_what_the_scenario_says(path: Path) -> None:
    bench = Bench()
    shown = []
    for block in path.read_text().strip().split("\n\n"):
        steps = block.partition("\n----")[0].splitlines()
        for step in steps:
            if not step.startswith("#"):
                do(bench, step)
        lines = [told(request) for request in bench.sent()]
        stand = f"= {bench.state}, the log ends at {bench.log.position.offset}"
        shown.append("\n".join([*steps, "----", *lines, stand]))
    assert "\n\n".join(shown) + "\n" == path.read_text()
