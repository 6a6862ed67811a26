"""The rules of replication in a simulated cluster, and rules broken on purpose that it must see.

A run that fails prints its trace and its seed; `simulate(seed)` has it again.
`SYNAP_SIMULATION_SEEDS` sets how many are run, `tests/chaos/test_simulation.py` runs many more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from synap.position import Lineage
from synap.replication.rules import master, plan, quorum, reigns, resync, roster
from synap.replication.rules.follower import Follower
from synap.replication.rules.messages import Ack
from synap.replication.rules.plan import CatchUp, Replace
from synap.replication.rules.progress import LinkState, StreamBuffer
from synap.replication.rules.restart import Restart
from tests.simulation.node import MasterProcess
from tests.simulation.run import Failure, simulate
from tests.simulation.world import SimNode, Violation, World

SEEDS = int(os.environ.get("SYNAP_SIMULATION_SEEDS", "500"))
PARTS = 5
# A rule that is broken must show within so many.
MUTANT_SEEDS = 150
# What seeds of one part must have come through together: else they would prove little.
_DEEDS = (
    "is promoted",
    "installs",
    "acknowledges",
    "a new reign",
    "Diverged",
    "hears of epoch",
    "Recall",
)

Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("part", range(PARTS))
def test_nodes_agree_and_no_acknowledged_write_is_gone(part: int) -> None:
    lines = "\n".join(line for seed in range(part, SEEDS, PARTS) for line in simulate(seed))
    assert [deed for deed in _DEEDS if deed not in lines] == []


def test_seed_gives_the_same_trace_in_another_process() -> None:
    code = "from tests.simulation.run import simulate; print(*simulate(7), sep='\\n')"
    root = Path(__file__).parents[2]
    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, check=True, timeout=30,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )  # fmt: skip
    assert outcome.stdout.decode() == "\n".join(simulate(7)) + "\n"


def _ack_what_is_heard(patch: pytest.MonkeyPatch) -> None:
    """A replica acknowledges what the stream brought before it is in its log."""
    hear = Follower._hear_frame

    def hear_and_ack(self: Follower, *args: object) -> None:
        hear(self, *args)
        if self.status(0).state != LinkState.DISCONNECTED:
            epoch = self._log.lineage[-1].epoch if self._log.lineage else 0
            self.outbox.append(Ack(self._lag.master_offset, epoch, LinkState.IN_SYNC))

    patch.setattr(Follower, "_hear_frame", hear_and_ack)


def _welcome_everybody(patch: pytest.MonkeyPatch) -> None:
    """Neither side compares lineages or checksums at the join."""
    patch.setattr(master, "decide", lambda replica, *_: CatchUp(replica.offset))
    patch.setattr(plan, "objection", lambda *_: None)


def _trust_the_offset(patch: pytest.MonkeyPatch) -> None:
    """An ack counts by its number, whichever log it is of, and whatever state it tells."""
    patch.setattr(quorum, "counts", lambda *_: True)
    patch.setattr(roster, "_HOLDING_STATES", frozenset(LinkState))


def _count_one_too_few(patch: pytest.MonkeyPatch) -> None:
    """A quorum is reached one replica early."""
    held = quorum.held_offset
    patch.setattr(
        quorum,
        "held_offset",
        lambda offsets, replicas: held(list(offsets), max(1, replicas - 1)),
    )


def _ignore_higher_epochs(patch: pytest.MonkeyPatch) -> None:
    """A master goes on that was told that its reign is over."""
    patch.setattr(master, "epoch_above", lambda *_, **__: 0)


def _rank_by_the_number(patch: pytest.MonkeyPatch) -> None:
    """The higher epoch reigns, whoever began it: crashes outrank a promotion."""

    def outranks(one: Lineage, other: Lineage) -> bool:
        return one[-1].epoch > other[-1].epoch

    patch.setattr(plan, "outranks", outranks)
    patch.setattr(reigns, "outranks", outranks)


def _see_no_gap(patch: pytest.MonkeyPatch) -> None:
    """A replica never fetches what the stream did not bring."""
    patch.setattr(StreamBuffer, "missing", lambda *_: None)


def _put_nothing_aside(patch: pytest.MonkeyPatch) -> None:
    """A replica's own entries go when it takes a snapshot."""
    remedy = plan.remedy

    def forgetful(*args: object, **words: object) -> object:
        found = remedy(*args, **words)
        return Replace() if isinstance(found, Replace) else found

    patch.setattr(plan, "remedy", forgetful)


def _take_any_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A replica takes one that is older than what it holds of the master's log."""
    asked = resync.FetchSnapshot
    patch.setattr(resync, "FetchSnapshot", lambda *fields: asked(*fields[:-1]))


def _go_on_in_the_old_reign(patch: pytest.MonkeyPatch) -> None:
    """A master that lost the end of its log asks nobody and begins no epoch."""
    start = SimNode.start

    def start_as_if_nothing_was_lost(self: SimNode) -> None:
        self._may_have_lost = False
        start(self)

    patch.setattr(SimNode, "start", start_as_if_nothing_was_lost)


def _go_on_with_what_was_lent(patch: pytest.MonkeyPatch) -> None:
    """A master that has heard all its replicas goes on in the reign that lost entries."""

    def go_on(self: MasterProcess) -> None:
        node = self.disk.node
        node._keep(msgspec.structs.replace(node.identity, is_recovering=False))
        self.disk.open_as_master(may_have_lost=False, has_peers=True)

    patch.setattr(MasterProcess, "_end_restart", go_on)


def _begin_a_reign_at_once(patch: pytest.MonkeyPatch) -> None:
    """A master that lost the end of its log hears nobody before it begins a reign."""
    patch.setattr(Restart, "tick", lambda self, _: setattr(self, "is_over", True))


def _wait_for_too_few(patch: pytest.MonkeyPatch) -> None:
    """It begins one when as many are heard as acknowledge, not when all such sets are met."""
    begin = Restart.__init__

    def begin_too_early(self: Restart, log: object, known: object, quorum: int, _: int) -> None:
        begin(self, log, known, quorum, 0)
        self._needed = quorum

    patch.setattr(Restart, "__init__", begin_too_early)


def _rank_by_lineage(patch: pytest.MonkeyPatch) -> None:
    """The operator takes a reign that a replica has only heard of for one that it holds."""
    patch.setattr(reigns, "held", lambda lineage, _: lineage)


def _promote_anybody(patch: pytest.MonkeyPatch) -> None:
    """The operator does not look which replica holds most."""
    patch.setattr(World, "rank", staticmethod(lambda node: -node.disk.position.offset))


# Each with a seed that saw it once, so that the search is short.
_MUTANTS: tuple[tuple[Patch, int], ...] = (
    (_ack_what_is_heard, 1),
    (_welcome_everybody, 3),
    (_trust_the_offset, 11),
    (_count_one_too_few, 5),
    (_ignore_higher_epochs, 3),
    (_rank_by_the_number, 3574),
    (_see_no_gap, 0),
    (_put_nothing_aside, 8),
    (_take_any_snapshot, 8),
    (_go_on_in_the_old_reign, 1),
    (_promote_anybody, 0),
    (_go_on_with_what_was_lent, 9),
    (_begin_a_reign_at_once, 7),
    (_wait_for_too_few, 3),
    (_rank_by_lineage, 2748),
)


def _seen_in(seed: int) -> bool:
    try:
        simulate(seed)
    except Failure as failure:
        return isinstance(failure.__cause__, Violation)
    return False


@pytest.mark.parametrize(
    ("mutate", "seed"), _MUTANTS, ids=[each.__name__[1:] for each, _ in _MUTANTS]
)
def test_rule_broken_on_purpose_is_seen(
    mutate: Patch, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    assert any(map(_seen_in, (seed, *range(MUTANT_SEEDS))))
