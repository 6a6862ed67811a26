"""Who gets the next place where there are fewer than replicas that want one."""

from __future__ import annotations

from synap.replication.rules.turns import Turns

PLACES = 2
FORGET_NS = 100


def turns() -> Turns:
    return Turns(PLACES, FORGET_NS)


def test_free_place_is_given_at_once():
    assert turns().comes_to("a", [], 1)


def test_address_alone_may_have_every_place():
    queue = turns()
    assert queue.comes_to("a", ["a"], 1)
    assert not queue.comes_to("a", ["a", "a"], 1)


def test_address_with_a_place_gets_no_second_one_while_another_waits():
    """Cites R14."""
    queue = turns()
    assert not queue.comes_to("b", ["a", "a"], 1)
    assert not queue.comes_to("a", ["a"], 2)
    assert queue.comes_to("b", ["a"], 3)


def test_free_place_is_kept_for_who_waited_first():
    """Cites R14: asking more often is of no use."""
    queue = turns()
    for now_ns in range(5):
        assert not queue.comes_to("b", ["a", "a"], now_ns)
        assert not queue.comes_to("c", ["a", "a"], now_ns)
    assert not queue.comes_to("c", ["a"], 6)
    assert queue.comes_to("b", ["a"], 6)
    queue.begin("b")
    assert not queue.comes_to("b", ["a"], 7)
    assert queue.comes_to("c", ["a"], 7)


def test_who_does_not_come_back_waits_no_more():
    queue = turns()
    queue.comes_to("b", ["a", "a"], 1)
    assert queue.waiting_beside(["a"])
    assert queue.comes_to("a", ["a"], 2 + FORGET_NS)
    assert not queue.waiting_beside(["a"])


def test_waiting_addresses_are_bounded():
    queue = turns()
    for number in range(1000):
        queue.comes_to(f"h{number}", ["a", "b"], number // 100)
    assert len(queue._waiting) <= 257
