"""Shares of one thing among many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from synap.shares import Shares


def test_share_of_one_alone_is_half() -> None:
    shares = Shares(10)
    assert [shares.take("eve", 1) for _ in range(6)] == [True] * 5 + [False]
    assert shares.take("ann", 2)


def test_share_given_back_can_be_taken_again() -> None:
    shares = Shares(10)
    assert shares.take("eve", 5)
    shares.give_back("eve", 3)
    assert (shares.held_by("eve"), shares.held) == (2, 2)
    assert shares.take("eve", 3)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.booleans()), max_size=60),
)
def test_shares_never_come_to_more_than_the_total(steps: list[tuple[str, int, bool]]) -> None:
    shares = Shares(100)
    for holder, amount, gives in steps:
        if gives:
            held = shares.held_by(holder)
            shares.give_back(holder, min(amount, held)) if held else None
        elif shares.take(holder, amount):
            assert shares.held_by(holder) <= shares.total - shares.held
        assert shares.held == sum(map(shares.held_by, "abc")) <= shares.total
