"""How clients name a place in the log: the token `<offset>-<8 hex digits>`, as in `1042-9f2c11aa`.

An offset alone may name two entries: where a log lost its end, the next reign wrote others under
the same numbers. A place also says which reign wrote the entry. Neither a record nor the log holds
places: a record has its offset, and the node's lineage tells whose it is.

Pure: what a place is, and how it stands to a log. `position` has what nodes tell each other.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from enum import Enum

import msgspec

from synap.position import NO_HISTORY, UNASKED, Lineage

TAG_BYTES = 4
UNKNOWN_TAG = "00000000"
"""The tag of an entry whose reign the lineage does not name; it is equal to no tag."""
FORM = '"1042-9f2c11aa"'
"""What messages show as an example."""

_PLACE = re.compile(r"(0|[1-9][0-9]{0,19})-([0-9a-f]{8})", re.ASCII)
_MAX_OFFSET = 2**64 - 1


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry of the log, as clients name it.

    Attributes:
        offset: Its number; 0 is the place before the first.
        tag: Tag of the reign that wrote it; see `tag_of`.
    """

    offset: int
    tag: str

    @property
    def is_known(self) -> bool:
        """Whether it says who wrote the entry; else it is the place of no entry in particular."""
        return self.tag != UNKNOWN_TAG

    def __str__(self) -> str:
        return f"{self.offset}-{self.tag}"


class LogEnd(msgspec.Struct, frozen=True, gc=False):
    """The end of a log, or of the part of it that somebody has seen.

    Attributes:
        offset: Of the last entry; 0 for none.
        history: Of a reign that wrote it or came later on the same log; the lineage up to there
            tells who wrote each entry. NO_HISTORY where there is none.
    """

    offset: int
    history: bytes


class Standing(Enum):
    """How a place stands to a node's log.

    Attributes:
        REACHED: The log has it, and so has the store.
        PENDING: It belongs to a reign that may still write it here, or has.
        LOST: Its reign ended before it.
        UNKNOWN: Its reign is none of the lineage.
    """

    REACHED = "reached"
    PENDING = "pending"
    LOST = "lost"
    UNKNOWN = "unknown"


def parse_place(text: str) -> Place:
    """Return the place that `text` names.

    Raises:
        ValueError: it names none; the message shows the form.
    """
    match = _PLACE.fullmatch(text)
    if match is None or int(match[1]) > _MAX_OFFSET:
        raise ValueError(f"not a position such as {FORM}")
    return Place(int(match[1]), match[2])


def tag_of(history: bytes) -> str:
    """Return the tag of a reign: the first four random bytes of its history, in hex.

    Those of a reign that nobody asked for come after its mark, which all such reigns share.
    """
    start = TAG_BYTES if history.startswith(UNASKED) else 0
    return history[start : start + TAG_BYTES].hex()


class Reigns:
    """A lineage, made ready to be asked often. Immutable.

    Attributes:
        lineage: The reigns, oldest first.
        history: Of the newest reign; NO_HISTORY where there is none.
        first_offset: Of the newest reign; above all offsets where there is none.
        suffix: What follows the offset in the token of the newest reign's entries.
    """

    __slots__ = ("_firsts", "_tags", "first_offset", "history", "lineage", "suffix")

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self._firsts = [reign.first_offset for reign in lineage]
        self._tags = [tag_of(reign.history) for reign in lineage]
        self.history = lineage[-1].history if lineage else NO_HISTORY
        self.first_offset = lineage[-1].first_offset if lineage else _MAX_OFFSET + 1
        self.suffix = f"-{self._tags[-1] if lineage else UNKNOWN_TAG}"

    def tag_of(self, offset: int) -> str:
        """Return the tag of the reign that wrote, or will write, the entry `offset`."""
        at = bisect_right(self._firsts, offset) - 1
        return self._tags[at] if at >= 0 else UNKNOWN_TAG

    def epoch_of(self, offset: int) -> int:
        """Return the epoch of the reign that wrote, or will write, the entry `offset`; or 0."""
        at = bisect_right(self._firsts, offset) - 1
        return self.lineage[at].epoch if at >= 0 else 0

    def place(self, offset: int) -> Place:
        """Return the place of the entry `offset`."""
        return Place(offset, self.tag_of(offset))

    def token(self, offset: int) -> str:
        """Return the printed form of `place`; on the path of every request."""
        if offset >= self.first_offset:
            return f"{offset}{self.suffix}"
        return f"{offset}-{self.tag_of(offset)}"

    def holds(self, place: Place) -> bool:
        """Say whether the reign of `place` writes that offset here."""
        return place.is_known and self.tag_of(place.offset) == place.tag

    def names(self, place: Place) -> bool:
        """Say whether the reign of `place` is one of the lineage, wherever it wrote."""
        return place.tag in self._tags

    def until(self, history: bytes) -> Reigns | None:
        """Return the lineage up to the reign of `history`; None where that is none of it."""
        for number, reign in enumerate(self.lineage, 1):
            if reign.history == history:
                return Reigns(self.lineage[:number])
        return None


NO_REIGNS = Reigns(())


def is_reached(place: Place, end: LogEnd, applied: Reigns) -> bool:
    """Say whether a store holds the entry of `place`; see `standing`."""
    return place.offset == 0 or (place.offset <= end.offset and applied.holds(place))


def standing(place: Place, end: LogEnd, applied: Reigns, newest: Reigns) -> Standing:
    """Say how `place` stands to a node.

    Args:
        place: What a client has seen somewhere.
        end: What the node's store shows.
        applied: The lineage up to the reign of `end`: that of the store's content.
        newest: The node's lineage now. It may be ahead of the store, and, while a full resync
            changes the store, another one.
    """
    if is_reached(place, end, applied):
        return Standing.REACHED
    if newest.holds(place):
        return Standing.PENDING
    return Standing.LOST if newest.names(place) else Standing.UNKNOWN
