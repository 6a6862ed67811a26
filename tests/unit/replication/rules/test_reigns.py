"""Whether what a master hears ends its reign."""

from __future__ import annotations

import pytest

from synap.position import UNASKED, Lineage, Reign
from synap.replication.rules.reigns import epoch_above, outranks

FIRST = Reign(1, b"a" * 16, 1)
SECOND = Reign(2, b"b" * 16, 10)
RIVAL = Reign(2, b"c" * 16, 8)
# Promoted at the same place.
TWIN = Reign(2, b"t" * 16, 10)
LATER = Reign(3, b"l" * 16, 10)
THIRD = Reign(3, b"d" * 16, 20)
FOREIGN = Reign(9, b"f" * 16, 1)
# What a master begins by itself each time that its machine crashes.
CRASHED = Reign(2, UNASKED + b"m" * 12, 7)
CRASHED_AGAIN = Reign(3, UNASKED + b"n" * 12, 9)
CRASHED_ELSEWHERE = Reign(3, UNASKED + b"o" * 12, 9)
CRASHED_EARLY = Reign(5, UNASKED + b"q" * 12, 10)
CRASHED_LATE = Reign(4, UNASKED + b"p" * 12, 21)


@pytest.mark.parametrize(
    ("heard", "own", "from_master", "expected"),
    [
        ((FIRST, SECOND), (FIRST,), False, 2),
        ((FIRST, SECOND), (FIRST,), True, 2),
        ((FIRST, SECOND), (FIRST, SECOND), False, 0),
        ((FIRST, SECOND), (FIRST, SECOND), True, 0),
        ((FIRST,), (FIRST, SECOND), True, 0),
        # Of two with one number that is ahead which began after more entries.
        ((FIRST, RIVAL), (FIRST, SECOND), False, 0),
        ((FIRST, RIVAL), (FIRST, SECOND), True, 0),
        ((FIRST, SECOND), (FIRST, RIVAL), False, 2),
        ((FIRST, SECOND), (FIRST, RIVAL), True, 2),
        ((FIRST, SECOND), (FIRST, CRASHED, CRASHED_AGAIN), False, 2),
        ((FIRST, CRASHED, CRASHED_AGAIN), (FIRST, SECOND), True, 0),
        ((FIRST, CRASHED), (FIRST, CRASHED, CRASHED_AGAIN), True, 0),
        ((FIRST, CRASHED, CRASHED_AGAIN), (FIRST, CRASHED), False, 3),
        ((FIRST, CRASHED, CRASHED_AGAIN), (FIRST, CRASHED, CRASHED_ELSEWHERE), True, 0),
        ((FIRST, CRASHED, CRASHED_ELSEWHERE), (FIRST, CRASHED, CRASHED_AGAIN), True, 3),
        ((FOREIGN,), (FIRST,), True, 0),
        ((), (FIRST,), False, 0),
    ],
)
def test_reign_is_ended_by_a_higher_epoch_of_the_same_origin(
    heard: Lineage, own: Lineage, from_master: bool, expected: int
) -> None:
    """E2, E3."""
    assert epoch_above(heard, own, from_master=from_master) == expected


@pytest.mark.parametrize(
    ("higher", "lower"),
    [
        ((FIRST, SECOND), (FIRST, CRASHED, CRASHED_AGAIN)),
        ((FIRST, CRASHED, THIRD), (FIRST, CRASHED, CRASHED_AGAIN)),
        ((FIRST, SECOND, CRASHED_LATE), (FIRST, CRASHED, CRASHED_AGAIN)),
        ((FIRST, SECOND, THIRD), (FIRST, RIVAL)),
        ((FIRST, SECOND, CRASHED_LATE), (FIRST, SECOND)),
        # Two that were promoted stay rivals, whatever crashes afterwards.
        ((FIRST, SECOND), (FIRST, RIVAL, CRASHED_LATE)),
        ((FIRST, SECOND, CRASHED_LATE), (FIRST, RIVAL)),
        ((FIRST, TWIN), (FIRST, SECOND)),
        # Promoted and crashed before a first entry: the promotion counts, by its own number.
        ((FIRST, SECOND, CRASHED_EARLY), (FIRST, CRASHED, CRASHED_AGAIN)),
        ((FIRST, SECOND, CRASHED_EARLY), (FIRST, SECOND)),
        ((FIRST, LATER), (FIRST, SECOND, CRASHED_EARLY)),
        # A message that lacks the oldest reigns says no less.
        ((SECOND, THIRD, CRASHED_LATE), (FIRST, SECOND, THIRD)),
    ],
)
def test_reign_that_was_asked_for_outranks_those_that_nobody_asked_for(
    higher: Lineage, lower: Lineage
) -> None:
    """E6."""
    assert (outranks(higher, lower), outranks(lower, higher)) == (True, False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((FIRST, SECOND), (FIRST, SECOND)),
        ((FIRST, SECOND), (SECOND,)),
    ],
)
def test_equals_outrank_neither(one: Lineage, other: Lineage) -> None:
    """E6."""
    assert (outranks(one, other), outranks(other, one)) == (False, False)
