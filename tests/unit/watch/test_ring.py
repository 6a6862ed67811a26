"""The newest frames."""

from __future__ import annotations

from synap.watch.ring import Ring
from tests.unit.watch.feeds import batches_of, sets


def test_ring_gives_what_ends_after_a_place() -> None:
    ring = Ring(0, 1 << 20)
    batches = batches_of(sets("a", "b"), sets("c"), sets("d", "e"))
    for batch in batches:
        ring.add(batch)
    assert ring.after(0, 5) == batches
    assert ring.after(2, 5) == batches[1:]
    # Inside of a frame it comes whole.
    assert ring.after(1, 5) == batches
    assert ring.after(4, 5) == batches[2:]
    assert ring.after(5, 5) == []
    assert ring.after(0, 3) == batches[:2]


def test_ring_forgets_the_oldest_and_says_so() -> None:
    batches = batches_of(*(sets(f"key {number}") for number in range(1000)))
    ring = Ring(0, 10 * batches[0].size)
    for batch in batches:
        ring.add(batch)
        assert ring.size <= 10 * batches[0].size + batch.size
    assert ring.after(ring.start - 1, 1000) is None
    assert ring.after(ring.start, 1000) == batches[ring.start :]
    assert ring.start > 980


def test_ring_keeps_the_newest_however_large() -> None:
    ring = Ring(0, 1)
    first, second = batches_of(sets("a"), sets("b"))
    ring.add(first)
    ring.add(second)
    assert ring.after(1, 2) == [second]
