"""Whether a master's reign has ended: what it concludes from the lineages that it hears of.

Plain values. A stranger's lineage says nothing about this node, whatever its epoch: both must have
gone through a reign of the same history.

Source: docs/protocol.md, "Reigns".
"""

from __future__ import annotations

from synap.position import Lineage


def epoch_above(heard: Lineage, own: Lineage, *, from_master: bool) -> int:
    """Return the epoch that ends the reign of this master; 0 where none does.

    Args:
        heard: The lineage of the node that said hello.
        own: This master's.
        from_master: Whether that node is a master itself. Then the same number under another
            history is enough: a master that lost its tail begins an epoch by itself, the other one
            was promoted by somebody who knew.
    """
    if not heard or not own or set(heard).isdisjoint(own):
        return 0
    newest, reigning = heard[-1], own[-1]
    if newest.epoch > reigning.epoch:
        return newest.epoch
    is_rival = newest.epoch == reigning.epoch and newest.history != reigning.history
    return newest.epoch if from_master and is_rival else 0
