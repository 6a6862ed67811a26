"""How keys spread over clusters by their slots, and what a new one moves.

`python -m ops.scaling.balance [KEYS]` counts it, on keys as applications name them: counters, users
with and without braces, random names.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from statistics import mean, pstdev
from zlib import crc32

from synap.slots import SLOTS, moves, tag_of

KEYS = 10_000_000
CLUSTERS = 100
_SHAPES = 4
_PER_TAG = 10


def main() -> None:
    """Count, and print what docs/scaling.md has."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    by_slot = _count(count)
    print(f"{count:,} keys in {SLOTS} slots: {_spread(by_slot)}")
    for clusters in (3, 10, CLUSTERS):
        names = [f"c{number}" for number in range(clusters)]
        owners = _spread_slots(names)
        print(f"{clusters} clusters: {_spread(_by_owner(by_slot, owners))}")
        found = moves(owners, [*names, "new"])
        moved = sum(by_slot[slot] for slot, _ in found)
        for slot, owner in found:
            owners[slot] = owner
        share = moved / count
        print(
            f"  one more moves {len(found)} slots, {share:.2%} of the keys (an even share is "
            f"{1 / (clusters + 1):.2%}): {_spread(_by_owner(by_slot, owners))}"
        )


def _count(count: int) -> list[int]:
    """Return how many keys each slot has."""
    by_slot = [0] * SLOTS
    draw = random.Random(1)
    for number in range(count // _SHAPES):
        for key in (
            b"counter:%d" % number,
            b"{user:%d}:%d" % (number // _PER_TAG, number % _PER_TAG),
            b"session:%032x" % draw.getrandbits(128),
            b"order/%d/lines" % (1_000_000 + number * 7),
        ):
            by_slot[crc32(tag_of(key)) % SLOTS] += 1
    return by_slot


def _spread_slots(names: list[str]) -> list[str]:
    """Return the owner of each slot, all of them alike."""
    owners = [names[0]] * SLOTS
    for slot, owner in moves(owners, names):
        owners[slot] = owner
    return owners


def _by_owner(by_slot: list[int], owners: list[str]) -> list[int]:
    held: Counter[str] = Counter()
    for keys, owner in zip(by_slot, owners, strict=True):
        held[owner] += keys
    return list(held.values())


def _spread(parts: list[int]) -> str:
    middle = mean(parts)
    return (
        f"least {min(parts) / middle:.3f}, most {max(parts) / middle:.3f} of an even share, "
        f"deviation {pstdev(parts) / middle:.2%}"
    )


if __name__ == "__main__":
    main()
