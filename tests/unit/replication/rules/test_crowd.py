"""Which name goes for another one."""

from __future__ import annotations

from synap.replication.rules.crowd import Seat, who_makes_room

NOW_NS = 1000


def seat(group: str, heard_ns: int, *, is_connected: bool = False) -> Seat:
    return Seat(group, is_connected, heard_ns)


def test_name_of_the_address_with_the_most_names_goes():
    """Cites K10."""
    seats = {"real": seat("a", 1), "x": seat("b", 8), "y": seat("b", 5), "z": seat("b", 7)}
    assert who_makes_room(seats, "c", NOW_NS) == "y"
    assert who_makes_room(seats, "b", NOW_NS) == "y"


def test_name_that_is_connected_goes_for_an_address_with_fewer_alone():
    seats = {name: seat("a", at, is_connected=True) for at, name in enumerate("xyz")}
    assert who_makes_room(seats, "a", NOW_NS) is None
    assert who_makes_room(seats, "b", NOW_NS) == "x"


def test_names_of_as_many_addresses_go_by_their_silence():
    seats = {"x": seat("a", 5), "y": seat("b", 3), "z": seat("c", 1, is_connected=True)}
    assert who_makes_room(seats, "d", NOW_NS) == "y"


def test_name_of_another_address_that_was_heard_lately_stays():
    """Cites K10."""
    seats = {"x": seat("a", 900), "y": seat("b", 950)}
    assert who_makes_room(seats, "c", NOW_NS, away_ns=200) is None
    assert who_makes_room(seats, "c", NOW_NS, away_ns=100) == "x"
    assert who_makes_room(seats, "b", NOW_NS, away_ns=200) == "y"
