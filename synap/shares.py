"""What each of many holds of one bounded thing, so that nobody takes all of it from the others.

Whoever asks for more gets it for as long as they then hold no more than is left free. So one alone
gets half, the next one half of what is left, and somebody who holds little is served beside one who
asks without end. Nobody's part is set aside for them, and nothing is taken back.

Pure. Who they are is the caller's business: see `Holder`.

Source: dynamic thresholds for shared buffers (Choudhury and Hahne, 1998), with the factor 1.
"""

from __future__ import annotations

Holder = str
"""The user, whose keys and addresses count together; where there are no users, the address."""


class Shares:
    """The parts of one thing, in whatever it is counted in."""

    __slots__ = ("_held", "_held_by", "total")

    def __init__(self, total: int) -> None:
        """
        Args:
            total: What all may hold together.
        """
        self.total = total
        self._held = 0
        # Those who hold something.
        self._held_by: dict[Holder, int] = {}

    @property
    def held(self) -> int:
        """What all hold together."""
        return self._held

    def held_by(self, holder: Holder) -> int:
        """Return what somebody holds."""
        return self._held_by.get(holder, 0)

    def take(self, holder: Holder, amount: int) -> bool:
        """Give somebody `amount` more, at least 1; return False where that is over their share."""
        mine = self._held_by.get(holder, 0) + amount
        if mine > self.total - self._held - amount:
            return False
        self._held_by[holder] = mine
        self._held += amount
        return True

    def has_room(self, holder: Holder, amount: int) -> bool:
        """Say whether `take` would give somebody `amount` more."""
        return self._held_by.get(holder, 0) + amount <= self.total - self._held - amount

    def count(self, holder: Holder, amount: int) -> None:
        """Note what somebody holds already, at least 1, whatever their share is."""
        self._held_by[holder] = self._held_by.get(holder, 0) + amount
        self._held += amount

    def give_back(self, holder: Holder, amount: int) -> None:
        """Take back what `take` gave, in whatever parts."""
        left = self._held_by[holder] - amount
        assert left >= 0, "nobody gives back more than they hold"
        if left:
            self._held_by[holder] = left
        else:
            del self._held_by[holder]
        self._held -= amount
