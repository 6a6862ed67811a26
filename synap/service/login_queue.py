"""Who is next to have a password checked: fair between addresses and users, guessers last.

Pure. A check takes long and one runs at a time, so whoever asks for many keeps others waiting.
Those of an address that was wrong lately come after those of others; among equals, the user and
then the address that has had no turn for longest is next. Where all places are taken, whoever
would come last goes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

import msgspec

from synap.addresses import client_group

Number = TypeVar("Number", int, float)

# Checks that wait on one worker in all, and of one address with the one that runs.
MAX_WAITING = 32
MAX_WAITING_OF_ADDRESS = 3
# One wrong password of an address is forgotten in this time, the next one in as much again.
FORGET_SECONDS = 10.0
# Addresses and users that are remembered, those of the newest turns.
_MAX_REMEMBERED = 4096


class Place(msgspec.Struct, eq=False):
    """Somebody who waits.

    Attributes:
        group: The address, of IPv6 the network.
        username: Whose password it is said to be.
        number: In the order of coming.
    """

    group: str
    username: str
    number: int


class LoginQueue:
    """The checks that wait on one worker. Time is in seconds, of a clock that never goes back."""

    def __init__(self) -> None:
        self._waiting: list[Place] = []
        self._number = 0
        # By group: the time at which all its failures will be forgotten.
        self._forgotten_at: OrderedDict[str, float] = OrderedDict()
        # Numbers of the last turns.
        self._turn = 0
        self._current: str | None = None
        self._turn_of_user: OrderedDict[str, int] = OrderedDict()
        self._turn_of_group: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, address: str, username: str, now: float) -> tuple[Place | None, Place | None]:
        """Ask for a place.

        Args:
            address: The client's; "" where it has none.
            username: Whose password it is said to be.

        Returns:
            The place, None where there is none; whoever lost theirs to it, None where nobody did.
        """
        group = client_group(address)
        taken = sum(each.group == group for each in self._waiting) + (group == self._current)
        if taken >= MAX_WAITING_OF_ADDRESS:
            return None, None
        self._number += 1
        place = Place(group, username, self._number)
        self._waiting.append(place)
        if len(self._waiting) <= MAX_WAITING:
            return place, None
        last = max(self._waiting, key=lambda each: self._rank(each, now))
        self._waiting.remove(last)
        return (None, None) if last is place else (place, last)

    def leave(self, place: Place) -> None:
        """Give up a place; twice does no harm."""
        if place in self._waiting:
            self._waiting.remove(place)

    def next(self, now: float) -> Place | None:
        """Return whose turn it is, and take them out; None where nobody waits."""
        if not self._waiting:
            return None
        place = min(self._waiting, key=lambda each: self._rank(each, now))
        self._waiting.remove(place)
        self._turn += 1
        self._current = place.group
        _remember(self._turn_of_user, place.username, self._turn)
        _remember(self._turn_of_group, place.group, self._turn)
        return place

    def end_turn(self) -> None:
        """Learn that the check is over whose turn it was."""
        self._current = None

    def note_failure(self, address: str, now: float) -> None:
        """Note that an address sent a wrong password."""
        group = client_group(address)
        until = max(now, self._forgotten_at.get(group, now)) + FORGET_SECONDS
        _remember(self._forgotten_at, group, until)

    def _rank(self, place: Place, now: float) -> tuple[float, int, int, int]:
        failures = max(0.0, self._forgotten_at.get(place.group, now) - now)
        return (
            failures,
            self._turn_of_user.get(place.username, 0),
            self._turn_of_group.get(place.group, 0),
            place.number,
        )


def _remember(table: OrderedDict[str, Number], name: str, value: Number) -> None:
    table[name] = value
    table.move_to_end(name)
    if len(table) > _MAX_REMEMBERED:
        table.popitem(last=False)
