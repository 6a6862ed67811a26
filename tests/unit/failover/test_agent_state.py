"""What an agent tells of the cluster."""

from __future__ import annotations

import msgspec
import pytest

from synap.failover.agent_state import state_of
from synap.failover.rules import Leader, Member, Settings
from synap.replication.rules.reigns import Rank
from tests.unit.failover.test_candidates import OWN, SETTINGS, member, view_of

LEADER = Leader("a", "a" * 16, 2, True, "a:1", "a:2", "http://a:1", offset=60)


def view_with(*members: Member, settings: Settings = SETTINGS):  # type: ignore[no-untyped-def]
    return view_of(member("a", 60), *members, leader=LEADER, is_taken=True, settings=settings)


def test_state_names_the_next_and_what_it_lacks() -> None:
    state = state_of(view_with(OWN, member("c", 58)), OWN, is_own=False, note="")
    assert (state.leader, state.epoch, state.next, state.would_lose) == ("a", 2, "c", 2)
    assert (state.missing, state.seals_needed, state.can_replace) == ((), 2, True)
    assert state.seals_ready == 2


@pytest.mark.parametrize(
    ("members", "settings"),
    [
        ((OWN,), SETTINGS),
        ((OWN, msgspec.structs.replace(member("c"), rank=Rank(0, 0, 0))), SETTINGS),
        ((OWN, member("c")), msgspec.structs.replace(SETTINGS, is_paused=True)),
        (
            (msgspec.structs.replace(OWN, unfit="hangs"), member("c", unfit="hangs")),
            msgspec.structs.replace(SETTINGS, quorum=0),
        ),
    ],
    ids=["a voter is away", "a voter is empty", "maintenance", "none is fit"],
)
def test_lost_master_that_nobody_would_replace_is_told(
    members: tuple[Member, ...], settings: Settings
) -> None:
    state = state_of(view_with(*members, settings=settings), members[0], is_own=False, note="")
    assert not state.can_replace
