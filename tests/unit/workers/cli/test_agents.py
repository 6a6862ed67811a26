"""Which node the master's place may be moved to by hand."""

from __future__ import annotations

import pytest

from tests.unit.failover.test_agent_state import LEADER
from tests.unit.failover.test_candidates import OWN, member, view_of
from workers.cli.agents import _why_no_move


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("b", ""),
        ("a", "a leads already"),
        ("d", "d is not there; there are a, b, c"),
        ("c", "c can't lead: it is diverged"),
    ],
)
def test_move_is_refused_to_whom_can_not_lead(to: str, words: str) -> None:
    view = view_of(member("a"), OWN, member("c", unfit="it is diverged"), leader=LEADER)
    assert _why_no_move(view, to) == words


def test_nothing_is_moved_where_nobody_leads() -> None:
    assert _why_no_move(view_of(OWN), "b") == "nobody leads"
