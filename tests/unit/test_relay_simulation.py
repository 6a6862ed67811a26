"""Relays in a simulated cluster, and their rules broken on purpose, which it must see."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from synap.replication.rules import relay
from synap.replication.rules.messages import Heartbeat
from synap.replication.rules.relay import RelayMaster
from tests.simulation.relayed import RelayProcess, simulate_relays
from tests.simulation.run import breaks_a_promise

SEEDS = 60
# What the seeds must have come through together: else they would prove little.
_DEEDS = (
    "relay n1 answers n2: CatchUp",
    "relay n2 answers n3: CatchUp",
    "relay n1 answers n2: Wait",
    "installs",
    "n0 answers n3",
    "hears no master itself",
)

Patch = Callable[[pytest.MonkeyPatch], None]


def test_nodes_below_relays_agree_and_tell_their_age() -> None:
    lines = "\n".join(line for seed in range(SEEDS) for line in simulate_relays(seed))
    assert [deed for deed in _DEEDS if deed not in lines] == []


def _tell_no_age(patch: pytest.MonkeyPatch) -> None:
    """A relay tells its own heartbeat for the master's."""
    heartbeat = RelayMaster.heartbeat

    def young(self: RelayMaster, wall_ms: int) -> Heartbeat | None:
        beat = heartbeat(self, wall_ms)
        return beat and msgspec.structs.replace(beat, age_ms=0)

    patch.setattr(RelayMaster, "heartbeat", young)


def _judge_who_is_ahead(patch: pytest.MonkeyPatch) -> None:
    """A relay takes what it lacks for what its master lacks."""
    patch.setattr(relay, "is_behind", lambda *_: False)


def _count_leaves(patch: pytest.MonkeyPatch) -> None:
    """A replica that follows relays counts for a quorum whenever it follows the master."""
    options = RelayProcess._options
    patch.setattr(
        RelayProcess, "_options", lambda self: msgspec.structs.replace(options(self), votes=True)
    )


@pytest.mark.parametrize("broken", [_tell_no_age, _judge_who_is_ahead, _count_leaves])
def test_rule_that_is_broken_shows(broken: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    assert any(breaks_a_promise(simulate_relays, seed) for seed in range(400))
