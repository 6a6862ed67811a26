"""Which name goes where a list of names is full and another one comes.

A member may make up as many names as it likes, but not as many addresses. So the address that has
the most names on the list gives one up first, and where none has more than its share only a name
that is not connected goes, the one that was not heard for longest. Where there is none such either,
the new name has to wait.

Pure: times are nanoseconds of one monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec


class Seat(msgspec.Struct, frozen=True):
    """Who is behind a name.

    Attributes:
        group: Where it comes from, as `client_group` tells addresses apart.
        is_connected: Whether it is there now.
        heard_ns: When it was heard last.
    """

    group: str
    is_connected: bool
    heard_ns: int


def who_makes_room(
    seats: Mapping[str, Seat], group: str, now_ns: int, away_ns: int = 0
) -> str | None:
    """Return the name that goes for a new one, None where the new one must not come.

    Args:
        seats: Who is behind each name of the full list.
        group: Where the new one comes from.
        now_ns: Monotonic clock.
        away_ns: A name of another address goes only when it was not heard for so long.
    """
    sizes = Counter(seat.group for seat in seats.values())
    largest, size = sizes.most_common(1)[0]
    if size > sizes[group] + 1:
        return _first_to_go({name: seat for name, seat in seats.items() if seat.group == largest})
    gone = {name: seat for name, seat in seats.items() if not seat.is_connected}
    own = {name: seat for name, seat in gone.items() if seat.group == group}
    away = {name: seat for name, seat in gone.items() if now_ns - seat.heard_ns >= away_ns}
    return _first_to_go(own or away)


def _first_to_go(seats: Mapping[str, Seat]) -> str | None:
    def rank(name: str) -> tuple[bool, int]:
        seat = seats[name]
        return seat.is_connected, seat.heard_ns

    return min(seats, key=rank, default=None)
