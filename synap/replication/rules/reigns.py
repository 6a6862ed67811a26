"""Which of two lineages reigns, and whether a master's reign has ended by what it hears.

Plain values. A stranger's lineage says nothing about this node, whatever its epoch: both must have
gone through a reign of the same history. Of such two, what came since they parted decides:

    a reign that an operator asked for   stands above any number of those that nobody asked for
    two that were asked for              the higher epoch
    none that was asked for              the higher epoch
    the same epoch                       that which began after more entries; then the higher id

So of two masters that meet exactly one goes on, and both know which, whoever hears of it how.

A machine that crashes counts up by itself each time it comes back; somebody who promotes a node
knows more than it does.

Source: docs/protocol.md, "Reigns".
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from synap.position import UNASKED, Lineage


class Rank(NamedTuple):
    """What a node's data is worth beside another's of the same cluster; the larger one is ahead.

    Attributes:
        asked_epoch: Number of the newest reign held that an operator asked for; 0 for none.
        epoch: Number of the newest reign held.
        offset: The end of the log.
    """

    asked_epoch: int
    epoch: int
    offset: int


def held(lineage: Lineage, offset: int) -> Lineage:
    """Return the reigns that a log which ends at `offset` has entries of, or follows up to.

    A replica takes its master's lineage at the welcome, before it has a frame of it: the reigns
    beyond are only heard of.
    """
    return tuple(reign for reign in lineage if reign.first_offset <= offset + 1)


def rank(lineage: Lineage, offset: int) -> Rank:
    """Rank a node by its data: by the newest reign that it holds, then by its offset.

    What a node has only heard of ends reigns (`outranks`), and makes it no better candidate.
    """
    reigns = held(lineage, offset)
    return Rank(asked_epoch(reigns), reigns[-1].epoch if reigns else 0, offset)


def asked_epoch(lineage: Lineage) -> int:
    """Return the number of the newest reign that an operator, or an agent, asked for; 0 for none.

    Reigns that a master begins by itself after a crash stay below it: they are of its promotion.
    """
    return max((reign.epoch for reign in lineage if not reign.is_unasked), default=0)


def is_sealed(seal: int, history: bytes, epoch: int, lineage: Lineage) -> bool:
    """Say whether a master that is heard in a reign is known to be one that a seal has ended.

    False for a reign that its master began by itself and that is not in the lineage: its own
    lineage, which the welcome brings, says whose it is.

    Args:
        seal: Epoch that was promised to a candidate; 0 for none.
        history: The reign's.
        epoch: Its number.
        lineage: The node's own.
    """
    if not history.startswith(UNASKED):
        return epoch < seal
    at = next((at for at, reign in enumerate(lineage) if reign.history == history), None)
    return at is not None and asked_epoch(lineage[: at + 1]) < seal


def outranks(one: Lineage, other: Lineage) -> bool:
    """Whether `one` reigns over `other`; both have gone through a reign of the same history."""
    return _standing(one, other) > _standing(other, one)


def epoch_above(heard: Lineage, own: Lineage, *, from_master: bool) -> int:
    """Return the epoch that ends the reign of this master; 0 where none does.

    Args:
        heard: The lineage of the node that said hello.
        own: This master's.
        from_master: Whether that node is a master itself. Then it is enough that neither outranks
            the other: two of them must not write.
    """
    if not heard or not own or set(heard).isdisjoint(own) or outranks(own, heard):
        return 0
    is_rival = from_master and heard[-1] != own[-1]
    return heard[-1].epoch if is_rival or outranks(heard, own) else 0


def _standing(lineage: Lineage, other: Lineage) -> tuple[int, int, int, bytes]:
    """Return what compares with that of `other`: by an asked-for epoch first, then by any."""
    shared = set(other)
    # From the newest one back to where they parted; a message may lack the oldest reigns.
    parted = list(takewhile(lambda reign: reign not in shared, reversed(lineage)))
    asked = [reign for reign in parted if not reign.is_unasked]
    if not parted:
        return 0, 0, 0, b""
    top = max(asked or parted, key=lambda reign: reign.epoch)
    epochs = (top.epoch, 0) if asked else (0, top.epoch)
    return *epochs, top.first_offset, top.history
