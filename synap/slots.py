"""Slots: which of several clusters a key belongs to.

A key's *tag* is what stands in its first pair of braces, or the whole key where there is none or
nothing in it; its slot is the CRC-32 of the tag, modulo 1024. So keys with one tag lie together,
and a load balancer can compute the slot of a key as well (`ops/haproxy-shards.cfg`). The
configuration says which cluster has which slots; what was moved since is in the clusters' own
records.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

import msgspec

SLOTS = 1024
_FORM = "slots are named as in '0-340 a http://a:15500'"


class Owner(msgspec.Struct, frozen=True):
    """A cluster.

    Attributes:
        cluster: Its name.
        url: Where its clients reach it.
    """

    cluster: str
    url: str


def tag_of(key: bytes) -> bytes:
    """Return the part of a key that its slot goes by."""
    opened = key.find(b"{")
    if opened < 0:
        return key
    closed = key.find(b"}", opened + 1)
    return key[opened + 1 : closed] if closed > opened + 1 else key


def slot_of(key: bytes) -> int:
    """Return the slot of a key."""
    return crc32(tag_of(key)) % SLOTS


def owners_of(lines: Iterable[str]) -> tuple[Owner, ...]:
    """Return the owner of each slot, from lines of first and last slot, cluster and URL.

    Raises:
        ValueError: a line is none of these, or a slot is named twice, or not at all.
    """
    owners: list[Owner | None] = [None] * SLOTS
    for line in lines:
        first, last, owner = parse_line(line)
        for slot in range(first, last + 1):
            if owners[slot] is not None:
                raise ValueError(f"slot {slot} is named twice")
            owners[slot] = owner
    missing = [slot for slot, owner in enumerate(owners) if owner is None]
    if missing:
        raise ValueError(f"{ranges(missing)} of the {SLOTS} slots are not named")
    return tuple(owner for owner in owners if owner is not None)


def parse_line(line: str) -> tuple[int, int, Owner]:
    """Return first slot, last slot and owner.

    Raises:
        ValueError: it is none.
    """
    words = line.split()
    if len(words) != 3:
        raise ValueError(_FORM)
    first, _, last = words[0].partition("-")
    last = last or first
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise ValueError(_FORM)
    if not 0 <= int(first) <= int(last) < SLOTS:
        raise ValueError(f"slots go from 0 to {SLOTS - 1}, the lower one first")
    return int(first), int(last), Owner(words[1], words[2])


def ranges(slots: Sequence[int]) -> str:
    """Return slots in short, as 0-3,7."""
    found: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1] = found[-1][0], slot
        else:
            found.append((slot, slot))
    return ",".join(str(one) if one == other else f"{one}-{other}" for one, other in found)


def moves(owners: Sequence[str], clusters: Sequence[str]) -> list[tuple[int, str]]:
    """Return the fewest moves after which each of `clusters` has as many slots as each other.

    Args:
        owners: The cluster of each slot.
        clusters: Those that are to have any; some may be new, and others left out.

    Returns:
        Slots and where they go. No cluster has two slots more than another one then.
    """
    held: dict[str, list[int]] = {cluster: [] for cluster in clusters}
    homeless: list[int] = []
    for slot, cluster in enumerate(owners):
        held.get(cluster, homeless).append(slot)
    least, more = divmod(len(owners), len(held))
    # Those that have the most keep the one more.
    order = sorted(held, key=lambda cluster: -len(held[cluster]))
    wanted = {cluster: least + (number < more) for number, cluster in enumerate(order)}
    for cluster in order:
        homeless += held[cluster][wanted[cluster] :]
    found = []
    for cluster in order:
        for _ in range(wanted[cluster] - len(held[cluster])):
            found.append((homeless.pop(0), cluster))
    return found
