"""The fake network: messages get lost, late, doubled and overtaken, and nodes cut off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.simulation.timeline import Timeline


@dataclass(slots=True)
class Weather:
    """How bad the network is; shares are from 0 to 1."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    latency_ms: float = 2.0
    late_ms: float = 0.0


def drawn_weather(random: Random, hardship: float, most_lost: float) -> Weather:
    """Return a weather by chance.

    Args:
        hardship: From 0, for a good one, to 1.
        most_lost: The largest share of messages that get lost.
    """
    draw = random.random
    return Weather(
        lost=most_lost * hardship * draw() ** 2,
        doubled=0.1 * hardship * draw(),
        late=0.3 * hardship * draw(),
        latency_ms=1 + 50 * draw() ** 3,
        late_ms=2000 * draw() ** 2,
    )


class Network:
    """Carries closures: what a message does where it arrives."""

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self.weather = Weather()
        self._timeline = timeline
        self._random = random
        self._side: dict[str, int] = {}
        # For how many ms a node takes nothing from its sockets yet.
        self.sleeps_ms: Callable[[str], float] = lambda _: 0

    def split(self, apart: list[str]) -> None:
        """Cut `apart` off from all others."""
        self._side = dict.fromkeys(apart, 1)

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self._side = {}

    def reaches(self, one: str, other: str) -> bool:
        return self._side.get(one, 0) == self._side.get(other, 0)

    def send(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        """Have `arrive` called once, twice, late, or never."""
        weather, draw = self.weather, self._random.random
        times = 2 if draw() < weather.doubled else 1
        for _ in range(times):
            if draw() < weather.lost or not self.reaches(source, target):
                continue
            delay_ms = weather.latency_ms * (0.5 + draw())
            if draw() < weather.late:
                delay_ms += weather.late_ms * draw()
            self._timeline.after(delay_ms, lambda: self._arrive(source, target, arrive))

    def _arrive(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        left_ms = self.sleeps_ms(target)
        if left_ms:
            self._timeline.after(left_ms, lambda: self._arrive(source, target, arrive))
        elif self.reaches(source, target):
            arrive()
