"""When a request is sent again, and when that ends."""

from __future__ import annotations

import pytest
from synap_client.rules.answers import Answer
from synap_client.rules.attempts import Attempts, Pause, Send, Stop
from synap_client.rules.kinds import Kind, Way
from synap_client.rules.nodes import Nodes
from synap_client.rules.positions import Positions

A, B = "http://a:1", "http://b:1"
WRITE = Kind(Way.WRITE, takes_key=True, needs_master=True)
READ = Kind(Way.READ)
NOW, DEADLINE = 100.0, 130.0
DONE = Answer(200, position="7-0123abcd")
REFUSED = Answer(421, "read_only_replica", master=B)
UNAVAILABLE = Answer(503, "writer_unavailable", is_retryable=True)
UNKNOWN = Answer(503, "outcome_unknown")
LOST = Answer(412, "position_lost")


class Call:
    """Attempts at one request to two nodes."""

    def __init__(self, kind: Kind, *, has_key: bool = False, nodes: tuple[str, ...] = (A, B)):
        self.nodes, self.positions = Nodes(nodes), Positions()
        self.attempts = Attempts(
            kind,
            self.nodes,
            self.positions,
            has_key=has_key,
            max_lag_ms=1000,
            deadline=DEADLINE,
            random=lambda: 1.0,
        )

    def sent(self) -> Send:
        step = self.attempts.next(NOW)
        assert isinstance(step, Send)
        return step

    def is_final(self, answer: Answer) -> bool:
        return self.attempts.answered(self.sent(), answer)

    def is_over(self, *, was_sent: bool) -> bool:
        return self.attempts.broke(self.sent(), NOW, was_sent=was_sent)


def test_refused_write_goes_to_the_master_that_is_told() -> None:
    call = Call(WRITE)
    assert not call.is_final(REFUSED)
    assert call.sent().url == B
    assert call.nodes.master == 1


def test_answered_write_tells_the_master_and_the_position() -> None:
    call = Call(WRITE)
    assert call.is_final(DONE)
    assert call.nodes.master == 0
    assert call.positions.newest == DONE.position


@pytest.mark.parametrize("answer", [Answer(404, "key_not_found"), Answer(400, "invalid_value")])
def test_write_that_failed_is_no_position(answer: Answer) -> None:
    call = Call(WRITE)
    assert call.is_final(answer)
    assert call.positions.newest == ""


def test_read_names_what_was_written_and_a_write_does_not() -> None:
    for kind, wanted in ((READ, DONE.position), (WRITE, ""), (Kind(Way.NODE), "")):
        call = Call(kind)
        call.positions.wrote(DONE.position)
        assert call.sent().min_position == wanted


@pytest.mark.parametrize(
    ("kind", "has_key", "is_final"), [(WRITE, False, True), (WRITE, True, False), (READ, 0, 0)]
)
def test_unknown_outcome_is_final_where_it_may_not_be_sent_again(
    kind: Kind, has_key: bool, is_final: bool
) -> None:
    assert Call(kind, has_key=has_key).is_final(UNKNOWN) == is_final
    assert Call(kind, has_key=has_key).is_over(was_sent=True) == is_final
    assert not Call(kind, has_key=has_key).is_over(was_sent=False)


def test_nothing_done_is_sent_again_without_a_key() -> None:
    call = Call(WRITE)
    assert not call.is_final(UNAVAILABLE)
    assert not call.is_final(REFUSED)
    assert isinstance(call.attempts.next(NOW), Pause)
    assert call.is_final(DONE)


def test_pauses_grow_and_end_at_a_second() -> None:
    call = Call(WRITE, nodes=(A,))
    pauses = []
    for _ in range(7):
        assert not call.is_final(UNAVAILABLE)
        step = call.attempts.next(NOW)
        assert isinstance(step, Pause)
        pauses.append(step.seconds)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_pause_is_as_long_as_the_node_asks_and_the_deadline_lets() -> None:
    call = Call(WRITE, nodes=(A,))
    assert not call.is_final(Answer(429, "rate_limited", retry_after_seconds=3.0))
    assert call.attempts.next(NOW) == Pause(3.0)
    assert not call.is_final(Answer(429, "rate_limited", retry_after_seconds=3.0))
    assert call.attempts.next(DEADLINE - 1) == Pause(1.0)


def test_deadline_ends_it_and_says_what_may_have_happened() -> None:
    call = Call(WRITE, has_key=True)
    assert call.attempts.next(DEADLINE) == Stop(is_unknown=False)
    assert not call.is_over(was_sent=False)
    assert call.attempts.next(DEADLINE) == Stop(is_unknown=False)
    assert not call.is_final(UNKNOWN)
    assert call.attempts.next(DEADLINE) == Stop(is_unknown=True)


def test_read_without_an_answer_is_never_unknown() -> None:
    call = Call(READ)
    assert not call.is_over(was_sent=True)
    assert not call.is_final(UNKNOWN)
    assert call.attempts.next(DEADLINE) == Stop(is_unknown=False)


def test_lost_position_is_told_when_all_nodes_say_so_and_then_forgotten() -> None:
    call = Call(READ)
    call.positions.wrote(DONE.position)
    assert not call.is_final(LOST)
    assert not call.is_final(LOST)
    assert call.attempts.next(NOW) == Stop(is_unknown=False)
    assert call.positions.newest == ""


def test_lost_position_is_not_told_where_another_node_has_it() -> None:
    call = Call(READ)
    call.positions.wrote(DONE.position)
    assert not call.is_final(LOST)
    assert call.is_final(Answer(200))
    assert call.positions.newest == DONE.position


def test_lost_position_is_told_by_those_that_answer_after_some_rounds() -> None:
    call = Call(READ)
    for _ in range(2):
        assert not call.is_final(LOST)
        assert not call.is_over(was_sent=True)
        assert isinstance(call.attempts.next(NOW), Pause)
        call.nodes.heard(1)
    assert not call.is_final(LOST)
    assert not call.is_over(was_sent=True)
    assert call.attempts.next(NOW) == Stop(is_unknown=False)


def test_read_waits_longer_with_each_round_and_a_write_until_the_deadline() -> None:
    assert Call(WRITE).sent().seconds == DEADLINE - NOW
    call = Call(READ, nodes=(A,))
    waits = []
    for _ in range(5):
        waits.append(call.sent().seconds)
        assert isinstance(call.attempts.next(NOW), Pause)
    assert waits == [3.0, 6.0, 12.0, 24.0, 30.0]


def test_data_that_is_too_old_is_not_taken() -> None:
    call = Call(READ)
    assert not call.is_final(Answer(200, lag_ms=1001))
    assert call.is_final(Answer(200, lag_ms=1000))
