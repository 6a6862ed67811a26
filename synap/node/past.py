"""The reigns that a node's log went through, from its files: when each began, and who began it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from synap.errors import SynapError
from synap.node.identity import read_identity
from synap.node.paths import NodePaths
from synap.position import Lineage
from synap.wal.segment import SegmentHeader
from synap.wal.walk import has_segments, headers_in


class Past(msgspec.Struct, frozen=True, gc=False):
    """One reign.

    Attributes:
        epoch: Its number.
        first_offset: Of the first entry that it may have written.
        entries: What it wrote, as far as a later reign tells; None of the one that goes on.
        began_ms: Wall clock of the segment that it began; None where that is no longer there.
        cause: Who began it.
        history: Its id, in hex.
    """

    epoch: int
    first_offset: int
    entries: int | None
    began_ms: int | None
    cause: str
    history: str


def read_past(paths: NodePaths) -> list[Past]:
    """Return the reigns of a data directory, whether its node runs or not; oldest first.

    Raises:
        FileNotFoundError: there is no `node.json`.
        DataDirUnusable: it is damaged.
    """
    return past_of(read_identity(paths.node_file).lineage, _headers(paths.wal_dir))


def past_of(lineage: Lineage, headers: Sequence[SegmentHeader]) -> list[Past]:
    """Return the reigns, oldest first.

    Args:
        lineage: Those of a node.
        headers: Of the segments that it holds.
    """
    began: dict[bytes, int] = {}
    for header in headers:
        began.setdefault(header.history, header.created_ms)
    after = [*(reign.first_offset for reign in lineage[1:]), None][: len(lineage)]
    return [
        Past(
            epoch=reign.epoch,
            first_offset=reign.first_offset,
            entries=None if end is None else end - reign.first_offset,
            began_ms=began.get(reign.history),
            cause=_cause(number, is_unasked=reign.is_unasked),
            history=reign.history.hex(),
        )
        for number, (reign, end) in enumerate(zip(lineage, after, strict=True))
    ]


def _cause(number: int, *, is_unasked: bool) -> str:
    if is_unasked:
        return "the master itself, after a crash that may have cost it something"
    return "a promotion, or a restore" if number else "a new node, or a restore"


def _headers(wal_dir: Path) -> list[SegmentHeader]:
    """Return the headers of a log; none where it can't be read, which `synap doctor` tells."""
    try:
        return headers_in(wal_dir) if has_segments(wal_dir) else []
    except (OSError, SynapError):
        return []
