"""The lease service of a simulated cluster: etcd's promises, and what else it does to its clients.

Its clock drifts, its answers come late or never though what was asked took place, it is away, it
grants other times than were wanted, and it may end leases before their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from synap.failover.engine import Delete, EngineFailed, Item, Put, Unchanged
from tests.simulation.machine import DRIFT
from tests.simulation.network import Network
from tests.simulation.strand import Strand
from tests.simulation.timeline import NS_PER_MS, Timeline

Answer = TypeVar("Answer")

ENGINE = "engine"


@dataclass(slots=True)
class _Lease:
    ttl_seconds: int
    ends_ns: int


class LeaseService:
    """The keys and the leases, as one of them; who asks it is a `SimEngine`.

    Attributes:
        is_honest: It ends no lease before its time.
    """

    def __init__(self, timeline: Timeline, random: Random, *, is_honest: bool) -> None:
        self._timeline = timeline
        self._random = random
        self.is_honest = is_honest
        self._rate = 1 + DRIFT * random.choice((-1, 0, 1))
        self._items: dict[str, Item] = {}
        self._leases: dict[int, _Lease] = {}
        self._revision = 1
        self._count = 0
        self._away_until_ns = 0

    @property
    def is_away(self) -> bool:
        """Whether it answers nobody."""
        return self._timeline.now_ns < self._away_until_ns

    def go_away(self, ms: float) -> None:
        """Answer nobody for a while; leases live on over that, as with a new leader of etcd's."""
        self._away_until_ns = self._timeline.now_ns + int(ms * NS_PER_MS)
        for lease in self._leases.values():
            if lease.ends_ns < self._away_until_ns:
                lease.ends_ns = self._away_until_ns + self._lasts_ns(lease.ttl_seconds)

    def revoke_early(self) -> None:
        """End somebody's lease before its time."""
        if self._leases and not self.is_honest:
            self._end(self._random.choice(list(self._leases)))

    def grant(self, ttl_seconds: int) -> tuple[int, int]:
        self._count += 1
        granted = ttl_seconds + self._random.choice((0, 0, 0, 1))
        ends_ns = self._timeline.now_ns + self._lasts_ns(granted)
        self._leases[self._count] = _Lease(granted, ends_ns)
        return self._count, granted

    def keep_alive(self, lease: int) -> int:
        self._expire()
        held = self._leases.get(lease)
        if held is None:
            return 0
        held.ends_ns = self._timeline.now_ns + self._lasts_ns(held.ttl_seconds)
        return held.ttl_seconds

    def read(self, *spans: tuple[str, str]) -> dict[str, Item]:
        self._expire()
        return {
            key: item
            for key, item in sorted(self._items.items())
            if any(first <= key < end for first, end in spans)
        }

    def change(self, conditions: Sequence[Unchanged], effects: Sequence[Put | Delete]) -> bool:
        self._expire()
        for each in conditions:
            item = self._items.get(each.key)
            if (item.changed if item is not None else 0) != each.revision:
                return False
        if any(isinstance(e, Put) and e.lease and e.lease not in self._leases for e in effects):
            raise EngineFailed("requested lease not found")
        self._revision += 1
        for effect in effects:
            if isinstance(effect, Delete):
                self._items.pop(effect.key, None)
                continue
            before = self._items.get(effect.key)
            created = before.created if before is not None else self._revision
            self._items[effect.key] = Item(effect.value, created, self._revision, effect.lease)
        return True

    def _lasts_ns(self, seconds: int) -> int:
        return int(seconds * 1_000_000_000 / self._rate)

    def _expire(self) -> None:
        for lease in [
            n for n, held in self._leases.items() if held.ends_ns <= self._timeline.now_ns
        ]:
            self._end(lease)

    def _end(self, lease: int) -> None:
        del self._leases[lease]
        self._items = {key: item for key, item in self._items.items() if item.lease != lease}


class SimEngine:
    """A node's client of the service, as `Engine` wants it; its calls rest in a strand.

    Attributes:
        strand: Whose calls these are.
    """

    def __init__(
        self, service: LeaseService, network: Network, random: Random, name: str,
        timeout_ms: float,
    ) -> None:  # fmt: skip
        self._service = service
        self._network = network
        self._random = random
        self._name = name
        self._timeout_ms = timeout_ms
        self.strand: Strand

    def grant(self, ttl_seconds: int) -> tuple[int, int]:
        self._ask()
        return self._answered(self._service.grant(ttl_seconds))

    def keep_alive(self, lease: int) -> int:
        self._ask()
        return self._answered(self._service.keep_alive(lease))

    def read(self, *spans: tuple[str, str]) -> dict[str, Item]:
        self._ask()
        return self._answered(self._service.read(*spans))

    def change(self, conditions: Sequence[Unchanged], effects: Sequence[Put | Delete]) -> bool:
        self._ask()
        return self._answered(self._service.change(conditions, effects))

    def _ask(self) -> None:
        """Have the request arrive, or not."""
        if self._is_lost():
            self.strand.rest(self._timeout_ms)
            raise EngineFailed("no answer")
        self.strand.rest(self._latency_ms())

    def _answered(self, answer: Answer) -> Answer:
        """Have the answer to what took place arrive, or not."""
        latency_ms = self._latency_ms()
        if self._is_lost() or latency_ms > self._timeout_ms:
            self.strand.rest(self._timeout_ms)
            raise EngineFailed("its answer is late")
        self.strand.rest(latency_ms)
        return answer

    def _is_lost(self) -> bool:
        weather = self._network.weather
        is_cut = self._service.is_away or not self._network.reaches(self._name, ENGINE)
        return is_cut or self._random.random() < weather.lost / 4

    def _latency_ms(self) -> float:
        weather, draw = self._network.weather, self._random.random
        late_ms = weather.late_ms * draw() if draw() < weather.late / 2 else 0
        return weather.latency_ms * (0.5 + draw()) + late_ms
