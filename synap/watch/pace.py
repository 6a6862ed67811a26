"""How soon to look what is new: at once where few are told, later where many are.

A telling costs a write to a socket however little it holds, and that costs more than finding and
encoding what it tells. So where many watch a busy log each is told less often, and more at once.
"""

from __future__ import annotations

# After a look that found nothing there is another one after so long; it costs microseconds.
LOOK_SECONDS = 0.002
# Where nothing has happened for a while there are fewer: (for so long, after so long).
_IDLE_LOOKS = ((5.0, 0.02), (0.5, 0.008))
# A telling takes 4 us in Python, and more in the loop and the kernel: in the long run there is one
# in so many seconds, as far as that makes nobody wait longer than the other figure.
_TELLING_SECONDS = 0.002
LONGEST_SECONDS = 0.02
# So many come without any wait, where few came before them.
_AT_ONCE = 20
# Nothing is waited for where the longest pause would bring two events or fewer: 100 a second. They
# are counted over about this long.
_SECONDS_COUNTED = 0.2
_FEW = 100 * _SECONDS_COUNTED


class Pace:
    """What a worker's looks have cost, and when the next one is due."""

    def __init__(self) -> None:
        # Tellings beyond those that the time since has paid for; below 0 where there is time left.
        self._owed = 0.0
        self._lately = 0.0

    def pause(self, tellings: int, events: int, elapsed: float, idle: float) -> float:
        """Return after how many seconds to look again.

        Args:
            tellings: Watchers that were told something since the last look.
            events: What was found since then.
            elapsed: Seconds since that.
            idle: Seconds since something happened.
        """
        owed = max(self._owed + tellings - elapsed / _TELLING_SECONDS, -_AT_ONCE)
        # What the longest pause does not pay for is nobody's debt.
        self._owed = min(owed, LONGEST_SECONDS / _TELLING_SECONDS)
        self._lately = self._lately * max(0.0, 1 - elapsed / _SECONDS_COUNTED) + events
        for after, pause in _IDLE_LOOKS:
            if idle > after:
                return pause
        if self._lately <= _FEW:
            return LOOK_SECONDS
        return max(LOOK_SECONDS, self._owed * _TELLING_SECONDS)
