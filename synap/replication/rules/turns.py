"""Whose turn it is where there are fewer places than replicas that want one.

The places are those of the snapshots' transfers. Whoever asked first comes first, and while another
address waits, none has a second place: a member that takes every place, and asks again as soon as
one ended, keeps nobody waiting for longer than the others' transfers take. Addresses are what is
told apart, because a name costs nothing; replicas of one machine share theirs.

Pure: times are nanoseconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection

# Addresses that wait. Beyond them the one goes that asked for the last time the longest ago.
_MOST_WAITING = 256


class Turns:
    """The queue. Whoever has a place is known to the caller alone."""

    def __init__(self, places: int, forget_ns: int) -> None:
        """
        Args:
            places: How many there are.
            forget_ns: Who has not asked for so long waits no more.
        """
        self._places = places
        self._forget_ns = forget_ns
        # When each asked for the last time, in the order in which they came.
        self._waiting: dict[str, int] = {}

    def comes_to(self, address: str, held: Collection[str], now_ns: int) -> bool:
        """Take that an address asks; return whether it may have a place now.

        Args:
            address: Who asks; it waits until `begin`.
            held: Who has each of the places that are taken.
            now_ns: When.
        """
        self._forget(now_ns)
        if address in held:
            return len(held) < self._places and not self.waiting_beside(held)
        self._waiting[address] = now_ns
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[min(self._waiting, key=self._waiting.__getitem__)]
        return address in self._waiting_for(len(held), held)

    def begin(self, address: str) -> None:
        """The address has got a place."""
        self._waiting.pop(address, None)

    def waiting_beside(self, held: Collection[str]) -> bool:
        """Say whether somebody waits who has no place."""
        return any(address not in held for address in self._waiting)

    def _waiting_for(self, taken: int, held: Collection[str]) -> list[str]:
        """Return those for whom the free places are."""
        return [each for each in self._waiting if each not in held][: self._places - taken]

    def _forget(self, now_ns: int) -> None:
        for address, asked_ns in tuple(self._waiting.items()):
            if now_ns - asked_ns > self._forget_ns:
                del self._waiting[address]
