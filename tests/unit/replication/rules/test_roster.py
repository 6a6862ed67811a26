"""What a master knows of its replicas."""

from __future__ import annotations

from synap.position import Position
from synap.replication.rules.lag import OffsetClock
from synap.replication.rules.messages import Ack, Hello
from synap.replication.rules.plan import CatchUp, Diverged, FullResync, Plan
from synap.replication.rules.progress import NS_PER_MS, LinkState
from synap.replication.rules.roster import MAX_REPLICAS, ReplicaProgress, Roster

SECOND_NS = 1000 * NS_PER_MS


def roster() -> Roster:
    return Roster(timeout_ns=30 * SECOND_NS, max_lag_ms=10_000)


def greet(
    target: Roster,
    peer: bytes,
    name: str,
    offset: int = 0,
    answer: Plan | None = None,
    at: int = 1,
    address: str = "10.0.0.1",
) -> bytes | None:
    hello = Hello(name, Position(1, offset, 0))
    return target.greet(peer, address, hello, answer or CatchUp(offset), at * SECOND_NS, 5)


def listed(target: Roster, last_offset: int = 0, at: int = 1) -> tuple[ReplicaProgress, ...]:
    return target.progress(last_offset, OffsetClock(), at * SECOND_NS)


def test_greeted_replica_is_listed_as_catching_up():
    known = roster()
    greet(known, b"a", "r1", 7)
    (replica,) = listed(known, last_offset=10)
    assert (replica.id, replica.address, replica.offset) == ("r1", "10.0.0.1", 7)
    assert (replica.lag_entries, replica.status) == (3, LinkState.CATCHING_UP)


def test_replica_of_the_time_before_is_shown_until_it_is_heard_or_forgotten():
    known = roster()
    known.expect({"r1": "10.0.0.1:15502", "r2": ""}, SECOND_NS, 40)
    first, second = listed(known, last_offset=10)
    assert (first.id, first.status, first.lag_entries, first.last_ack_ms) == (
        "r1", LinkState.DISCONNECTED, 10, 40,
    )  # fmt: skip
    assert "not heard it since" in second.note
    # Who was not heard takes no place from those who were, and counts as no connection.
    assert (known.seats(), len(known), known.expire(99 * SECOND_NS)) == ({}, 0, [])
    assert greet(known, b"a", "r1", 7) is None
    assert known.forget("r2")
    assert [(each.id, each.status, each.note) for each in listed(known)] == [
        ("r1", LinkState.CATCHING_UP, "")
    ]


def test_refused_replica_is_listed_with_what_it_was_told():
    known = roster()
    greet(known, b"a", "r1", answer=FullResync("late"))
    greet(known, b"b", "r2", answer=Diverged("foreign"))
    assert [each.status for each in listed(known)] == [LinkState.SYNCING, LinkState.DIVERGED]


def test_ack_moves_the_offset_and_the_state():
    """Cites A2."""
    known = roster()
    greet(known, b"a", "r1")
    assert known.acknowledge(b"a", Ack(9, 1, "in_sync"), 2 * SECOND_NS, 77)
    (replica,) = listed(known, last_offset=9, at=2)
    assert (replica.offset, replica.status, replica.last_ack_ms) == (9, LinkState.IN_SYNC, 77)


def test_ack_with_an_unknown_state_moves_the_offset_alone():
    known = roster()
    greet(known, b"a", "r1")
    known.acknowledge(b"a", Ack(9, 1, "dancing"), 2 * SECOND_NS, 77)
    (replica,) = listed(known)
    assert (replica.offset, replica.status) == (9, LinkState.CATCHING_UP)


def test_replica_is_listed_with_the_version_and_the_snapshot_that_it_told():
    """Cites A2."""
    known = roster()
    hello = Hello("r1", Position(1, 0, 0), version="0.1.0")
    known.greet(b"a", "10.0.0.1", hello, CatchUp(0), SECOND_NS, 5)
    known.acknowledge(b"a", Ack(9, 1, "in_sync", 1234), 2 * SECOND_NS, 77)
    (replica,) = listed(known)
    assert (replica.version, replica.snapshot_ms, replica.epoch) == ("0.1.0", 1234, 1)


def test_ack_of_a_connection_without_hello_is_refused():
    """Cites H2."""
    assert not roster().acknowledge(b"a", Ack(9, 1, "in_sync"), SECOND_NS, 1)


def test_lag_is_the_age_of_the_first_entry_that_was_not_acknowledged():
    known, clock = roster(), OffsetClock()
    greet(known, b"a", "r1")
    clock.note(5, 2 * SECOND_NS)
    clock.note(9, 4 * SECOND_NS)
    known.acknowledge(b"a", Ack(5, 1, "in_sync"), 5 * SECOND_NS, 1)
    assert known.progress(9, clock, 6 * SECOND_NS)[0].lag_ms == 2000


def test_replica_that_thinks_it_is_level_but_acks_nothing_is_lagging():
    known, clock = roster(), OffsetClock()
    greet(known, b"a", "r1")
    known.acknowledge(b"a", Ack(5, 1, "in_sync"), 5 * SECOND_NS, 1)
    clock.note(9, 6 * SECOND_NS)
    assert known.progress(9, clock, 17 * SECOND_NS)[0].status is LinkState.LAGGING


def test_silent_replica_is_forgotten_and_listed_as_disconnected():
    """Cites A3."""
    known = roster()
    greet(known, b"a", "r1")
    assert known.expire(31 * SECOND_NS) == []
    assert known.expire(32 * SECOND_NS) == [(b"a", "r1")]
    assert not known.knows(b"a")
    assert listed(known)[0].status is LinkState.DISCONNECTED
    assert known.expire(33 * SECOND_NS) == []


def test_replica_that_reconnects_replaces_its_old_connection():
    known = roster()
    greet(known, b"a", "r1")
    assert greet(known, b"b", "r1", 5) == b"a"
    assert not known.knows(b"a")
    assert [each.offset for each in listed(known)] == [5]


def test_connection_that_changes_its_name_is_listed_once():
    known = roster()
    greet(known, b"a", "r1")
    greet(known, b"a", "r2")
    assert [each.id for each in listed(known)] == ["r2"]


def test_repeated_hello_of_one_connection_replaces_nothing():
    known = roster()
    greet(known, b"a", "r1")
    assert greet(known, b"a", "r1", 5) is None
    assert known.knows(b"a")


def full_roster() -> Roster:
    known = roster()
    for number in range(MAX_REPLICAS):
        at = number + 1
        assert known.admits(f"r{number}", "10.0.0.1", at * SECOND_NS)
        greet(known, b"%d" % number, f"r{number}", at=at)
    return known


def test_full_roster_has_no_room_for_another_name_of_its_address():
    """Cites K10: who is connected stays, however many names a member makes up."""
    known = full_roster()
    assert not known.admits("another", "10.0.0.1", SECOND_NS)
    assert known.admits("r7", "10.0.0.1", SECOND_NS)
    assert len(listed(known)) == MAX_REPLICAS


def test_full_roster_forgets_the_name_that_is_away_for_longest():
    known = full_roster()
    known.expire(40 * SECOND_NS)
    assert known.admits("another", "10.0.0.1", 40 * SECOND_NS)
    assert "r0" not in {each.id for each in listed(known)}
    assert len(listed(known)) == MAX_REPLICAS - 1


def test_full_roster_has_room_for_a_replica_of_another_address():
    """Cites K10: the address with the most names gives one up."""
    known = full_roster()
    assert known.admits("real", "10.0.0.2", MAX_REPLICAS * SECOND_NS)
    greet(known, b"real", "real", at=MAX_REPLICAS, address="10.0.0.2")
    assert known.knows(b"real")
    assert not known.knows(b"0")
    for number in range(10):
        known.admits(f"new{number}", "10.0.0.1", MAX_REPLICAS * SECOND_NS)
    assert known.knows(b"real")


def test_two_replicas_of_one_name_are_told_by_their_turns():
    """Cites A5: a connection that was replaced comes back, which one that was lost never does."""
    known = roster()
    greet(known, b"a", "r1", at=1)
    assert greet(known, b"b", "r1", at=2) == b"a"
    assert listed(known, at=2)[0].note == ""
    assert greet(known, b"a", "r1", at=3) == b"b"
    assert "same server.node_id" in listed(known, at=3)[0].note
    greet(known, b"b", "r1", at=4)
    assert "10.0.0.1" in known.twin_note("r1", 5 * SECOND_NS)


def test_two_replicas_of_one_name_are_forgotten_when_one_goes():
    known = roster()
    for at, peer in enumerate((b"a", b"b", b"a"), 1):
        greet(known, peer, "r1", at=at)
    assert listed(known, at=33)[0].note
    assert listed(known, at=34)[0].note == ""


def test_replica_that_reconnects_often_is_no_other_one():
    known = roster()
    for at, peer in enumerate((b"a", b"b", b"b", b"c", b"d"), 1):
        greet(known, peer, "r1", at=at)
    assert listed(known, at=5)[0].note == ""
