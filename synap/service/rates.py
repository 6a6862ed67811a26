"""How often things happen: the counts of all workers, looked at once a second."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from synap.shared.counters import Counter

_INTERVAL_SECONDS = 1.0
# What a rate is the mean of.
_SAMPLES = 11


class Rates:
    """Operations a second over the last ten seconds, or since the start where that is shorter."""

    def __init__(self, totals: Callable[[], Sequence[int]]) -> None:
        """
        Args:
            totals: Tells the counts over all workers, by `Counter`.
        """
        self._totals = totals
        self._samples: deque[tuple[float, Sequence[int]]] = deque(maxlen=_SAMPLES)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_INTERVAL_SECONDS, self.start)
        self.sample(loop.time())

    def stop(self) -> None:
        """End; twice does no harm."""
        if self._timer is not None:
            self._timer.cancel()

    def sample(self, now: float) -> None:
        """Look at the counts at `now`, in seconds."""
        self._samples.append((now, self._totals()))

    def per_second(self, counter: Counter) -> float:
        """Return the rate of one count; 0.0 before the second look."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last[counter] - first[counter]) / max(last_at - first_at, _INTERVAL_SECONDS / 2)
