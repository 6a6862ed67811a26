"""Who goes for a key that nobody holds, and when."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from synap.failover.rules import (
    Handover,
    Leader,
    Member,
    Settings,
    Terms,
    Vacancy,
    View,
    is_changing,
    seals_for,
    why_wait,
)
from synap.replication.rules.reigns import Rank

TERMS = Terms(ttl_seconds=10.0, max_lag_entries=100)
VACANCY = Vacancy(seconds=1.0, had_leader=True, last_offset=50, hears_master=False)
HISTORY = ("aa",)
OWN = Member("b", "http://b:1", Rank(2, 2, 50))
SETTINGS = Settings(quorum=1, voters=("a", "b", "c"), histories=HISTORY)


def view_of(*members: Member, **changes: Any) -> View:
    view = View(
        leader=None, leader_lease=0, is_taken=False, members={each.id: each for each in members},
        epoch=2, settings=SETTINGS, handover=None, wanted="", revisions={},
    )  # fmt: skip
    return View(**{**{name: getattr(view, name) for name in View.__slots__}, **changes})


def member(name: str, offset: int = 50, asked: int = 2, **changes: Any) -> Member:
    rank = Rank(asked, asked, offset)
    return msgspec.structs.replace(OWN, id=name, url=f"http://{name}:1", rank=rank, **changes)


def waits(view: View, own: Member = OWN, vacancy: Vacancy = VACANCY) -> str:
    return why_wait(view, own, HISTORY, vacancy, TERMS)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (member("c", 51), "c is to lead"),
        (member("c", 9, asked=3), "c is to lead"),
        # By rank, not by name: but of equals one must go.
        (member("c", 50), "c is to lead"),
        (member("a", 50), ""),
        (member("c", 50, asked=1), ""),
        (member("c", 60, unfit="it is diverged"), ""),
        (member("a", 50, is_reigning=True), "a is to lead"),
        (member("c", 50, priority=-1), ""),
    ],
)
def test_best_one_leads(other: Member, words: str) -> None:
    # Both survivors of a cluster of three are there.
    assert waits(view_of(other)) == words


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (msgspec.structs.replace(OWN, unfit="it never held a whole state"), "never held"),
        (member("d"), "no voter"),
    ],
)
def test_node_that_must_not_lead_waits(own: Member, words: str) -> None:
    assert words in waits(view_of(member("a"), member("c", 1)), own)


def test_data_of_another_cluster_never_leads() -> None:
    assert "not this cluster's" in why_wait(view_of(OWN), OWN, ("bb",), VACANCY, TERMS)


def test_too_few_voters_for_the_seals_wait_and_say_what_is_missing() -> None:
    why = waits(view_of(OWN))
    assert "1 of 3 voters" in why
    assert "missing: a, c" in why
    two_copies = msgspec.structs.replace(SETTINGS, quorum=2)
    assert waits(view_of(OWN, settings=two_copies)) == ""


def test_voter_that_lost_its_data_stands_for_nothing() -> None:
    empty = msgspec.structs.replace(member("a"), rank=Rank(0, 0, 0), unfit="never held")
    assert "1 of 3 voters" in waits(view_of(empty))


def test_whole_cluster_that_starts_waits_for_all_voters_for_a_while() -> None:
    starting = Vacancy(1.0, had_leader=False, last_offset=0, hears_master=False)
    no_quorum = msgspec.structs.replace(SETTINGS, quorum=0)
    view = view_of(OWN, member("a", 1), settings=no_quorum)
    assert "waits for c" in waits(view, vacancy=starting)
    late = Vacancy(11.0, had_leader=False, last_offset=0, hears_master=False)
    assert waits(view, vacancy=late) == ""


def test_replica_that_hears_its_master_gives_it_the_time_of_a_lease() -> None:
    hears = Vacancy(1.0, had_leader=True, last_offset=50, hears_master=True)
    view = view_of(member("a", 1))
    assert waits(view, vacancy=hears) == "still hears its master"
    assert waits(view, vacancy=Vacancy(10.0, True, 50, True)) == ""


def test_without_a_quorum_a_replica_that_lacks_much_waits() -> None:
    view = view_of(settings=msgspec.structs.replace(SETTINGS, quorum=0))
    assert waits(view) == ""
    assert "lacks 150 entries" in waits(view, vacancy=Vacancy(1.0, True, 200, False))


def test_maintenance_moves_nothing_but_a_master_that_is_one_goes_on() -> None:
    view = view_of(member("a", 1), settings=msgspec.structs.replace(SETTINGS, is_paused=True))
    assert waits(view) == "maintenance"
    assert waits(view, msgspec.structs.replace(OWN, is_reigning=True)) == ""


def test_handover_is_for_the_one_that_it_names_and_needs_one_seal() -> None:
    """It logs nothing any more, and the heir holds all that it had."""
    handover = Handover("b", Rank(2, 2, 50), "a")
    hears = Vacancy(0.1, had_leader=True, last_offset=50, hears_master=True)
    view = view_of(member("c", 50), OWN, handover=handover)
    assert waits(view, vacancy=hears) == ""
    assert "hands over to b" in waits(view, member("c"))
    assert (seals_for(SETTINGS, handover, OWN), seals_for(SETTINGS, None, OWN)) == (1, 2)
    # An heir that is gone keeps nobody from it.
    gone = view_of(member("c", 50), member("a", 1), handover=handover)
    assert waits(gone, member("c")) == ""
    # One that lacks an entry is no heir.
    assert seals_for(SETTINGS, handover, member("b", 49)) == 2


LEADER = Leader("a", "a" * 16, 2, True, "a:1", "a:2", "http://a:1")


@pytest.mark.parametrize(
    ("changes", "is_due"),
    [
        ({}, False),
        ({"leader": None}, True),
        ({"leader": msgspec.structs.replace(LEADER, is_reigning=False)}, True),
        ({"handover": Handover("b", Rank(2, 2, 50), "a")}, True),
        ({"wanted": "b"}, True),
    ],
)
def test_node_looks_often_where_another_master_is_due(
    changes: dict[str, Any], is_due: bool
) -> None:
    view = view_of(OWN, **{"leader": LEADER, **changes})
    assert is_changing(view, hears_master=True) is is_due
    assert is_changing(view, hears_master=False)


def test_new_cluster_begins_with_whoever_has_data() -> None:
    view = view_of(member("a", 7), settings=None, epoch=0)
    assert waits(view, member("b", 0, asked=1)) == "a holds more"
    assert waits(view, member("b", 8)) == ""
