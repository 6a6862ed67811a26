"""Which of two lineages reigns, and whether a master's reign has ended by what it hears.

Plain values. A stranger's lineage says nothing about this node, whatever its epoch: both must have
gone through a reign of the same history. Of such two, what came since they parted decides:

    a reign that an operator asked for   stands above any number of those that nobody asked for
    two that were asked for              the higher epoch
    none that was asked for              the higher epoch

A machine that crashes counts up by itself each time it comes back; somebody who promotes a node
knows more than it does.

Source: docs/protocol.md, "Reigns".
"""

from __future__ import annotations

from synap.position import Lineage


def outranks(one: Lineage, other: Lineage) -> bool:
    """Whether `one` reigns over `other`; both have gone through a reign of the same history."""
    return _standing(one, other) > _standing(other, one)


def epoch_above(heard: Lineage, own: Lineage, *, from_master: bool) -> int:
    """Return the epoch that ends the reign of this master; 0 where none does.

    Args:
        heard: The lineage of the node that said hello.
        own: This master's.
        from_master: Whether that node is a master itself. Then it is enough that neither outranks
            the other: two of them must not write, and nobody but an operator knows which one may.
    """
    if not heard or not own or set(heard).isdisjoint(own) or outranks(own, heard):
        return 0
    is_rival = from_master and heard[-1] != own[-1]
    return heard[-1].epoch if is_rival or outranks(heard, own) else 0


def _standing(lineage: Lineage, other: Lineage) -> tuple[int, int]:
    """Return what compares with that of `other`: by an asked-for epoch first, then by any."""
    shared = set(other)
    asked = newest = 0
    # From the newest one back to where they parted; a message may lack the oldest reigns.
    for reign in reversed(lineage):
        if reign in shared:
            break
        newest = max(newest, reign.epoch)
        if not reign.is_unasked:
            asked = max(asked, reign.epoch)
    return asked, 0 if asked else newest
