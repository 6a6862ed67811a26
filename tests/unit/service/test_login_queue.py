"""Whose password is checked next."""

from __future__ import annotations

from synap.service.login_queue import (
    FORGET_SECONDS,
    MAX_WAITING,
    MAX_WAITING_OF_ADDRESS,
    LoginQueue,
    Place,
)


def joined(queue: LoginQueue, address: str, username: str, now: float = 0.0) -> Place:
    place, _ = queue.join(address, username, now)
    assert place is not None
    return place


def test_address_that_was_wrong_comes_behind_others() -> None:
    queue = LoginQueue()
    queue.note_failure("192.0.2.1", 0.0)
    guess, honest = joined(queue, "192.0.2.1", "ann"), joined(queue, "192.0.2.2", "ann")
    assert [queue.next(0.0), queue.next(0.0), queue.next(0.0)] == [honest, guess, None]


def test_wrong_password_is_forgotten_in_time() -> None:
    queue = LoginQueue()
    queue.note_failure("192.0.2.1", 0.0)
    once, never = joined(queue, "192.0.2.1", "ann"), joined(queue, "192.0.2.2", "ann")
    assert queue.next(FORGET_SECONDS) is once
    assert queue.next(FORGET_SECONDS) is never


def test_user_who_had_no_turn_goes_before_one_who_had() -> None:
    queue = LoginQueue()
    first, second = joined(queue, "192.0.2.1", "ann"), joined(queue, "192.0.2.2", "ann")
    assert queue.next(0.0) is first
    other = joined(queue, "192.0.2.3", "bob")
    assert [queue.next(0.0), queue.next(0.0)] == [other, second]


def test_address_has_few_places_and_an_ipv6_network_is_one() -> None:
    queue = LoginQueue()
    for number in range(MAX_WAITING_OF_ADDRESS):
        joined(queue, f"2001:db8::{number + 1}", "ann")
    assert queue.join("2001:db8::99", "bob", 0.0) == (None, None)
    joined(queue, "2001:db8:1::1", "bob")


def test_full_queue_gives_the_last_ones_place_to_who_goes_before_him() -> None:
    queue = LoginQueue()
    for number in range(MAX_WAITING):
        address = f"192.0.2.{number}"
        queue.note_failure(address, 0.0)
        joined(queue, address, "ann")
    honest, displaced = queue.join("198.51.100.1", "bob", 0.0)
    assert honest is not None
    assert displaced is not None
    assert len(queue) == MAX_WAITING
    assert queue.next(0.0) is honest
    queue.leave(displaced)


def test_full_queue_has_no_place_for_who_would_be_the_last() -> None:
    queue = LoginQueue()
    for number in range(MAX_WAITING):
        joined(queue, f"192.0.2.{number}", "ann")
    queue.note_failure("198.51.100.1", 0.0)
    assert queue.join("198.51.100.1", "bob", 0.0) == (None, None)
