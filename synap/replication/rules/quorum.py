"""When a quorum is reached, and the answers that wait for one: plain values, no sockets, no clock.

A replica holds what it acknowledged (`Ack`: in its WAL, under its own `fsync_mode`). Whether its
acks count is decided by `counts`: one that is not on this master's lineage may hold other entries
under the same numbers. `roster` asks for the rule, `quorum_answers` keeps the writer's answers in
`Waiting`.

Source: docs/protocol.md, "Quorum".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from synap.position import Lineage

Item = TypeVar("Item")


def counts(offset: int, epoch: int, lineage: Lineage) -> bool:
    """Say whether an ack names an entry of the present reign.

    One of an older reign may still be overruled: who holds it and another's later reign outranks
    them all (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", figure
    8). A reign's first entry shows that it began on the replica, and holds what came before.

    Args:
        offset: The ack's offset.
        epoch: Epoch of the entry there; 0 before the first.
        lineage: The master's reigns, oldest first.
    """
    return bool(lineage) and lineage[-1].first_offset <= offset and lineage[-1].epoch == epoch


def held_offset(offsets: Iterable[int], replicas: int) -> int:
    """Return the last offset that `replicas` of them hold; 0 where there are fewer.

    Args:
        offsets: What each replica that counts has acknowledged.
        replicas: From 1.
    """
    highest = sorted(offsets, reverse=True)
    return highest[replicas - 1] if replicas <= len(highest) else 0


def held_offsets(offsets: Iterable[int], most: int) -> tuple[int, ...]:
    """Return the last offset that one replica holds, that two hold, and so on up to `most`."""
    return tuple(sorted(offsets, reverse=True)[:most])


class Waiting(Generic[Item]):
    """What waits for a number of replicas to hold an offset, each thing until its deadline.

    Things are added in the order of their offsets and deadlines, as a log and a clock give them, so
    that looking costs nothing for those whose turn has not come.
    """

    def __init__(self) -> None:
        self._queues: dict[int, deque[tuple[int, float, Item]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, replicas: int, offset: int, deadline: float, item: Item) -> None:
        """Have `item` wait until `replicas` replicas hold `offset`, or until `deadline`."""
        self._queues.setdefault(replicas, deque()).append((offset, deadline, item))
        self._count += 1

    def numbers(self) -> list[int]:
        """Return the numbers of replicas that something waits for."""
        return list(self._queues)

    def take_held(self, replicas: int, offset: int) -> list[Item]:
        """Return and forget what waits for `replicas` replicas to hold an offset up to `offset`."""
        return self._take(replicas, lambda entry: entry[0] <= offset)

    def take_late(self, now: float) -> list[Item]:
        """Return and forget what has waited until its deadline."""
        late: list[Item] = []
        for replicas in self.numbers():
            late += self._take(replicas, lambda entry: entry[1] <= now)
        return late

    def take_all(self) -> list[Item]:
        """Return and forget everything."""
        return self.take_late(float("inf"))

    def next_deadline(self) -> float | None:
        """Return the earliest deadline; None where nothing waits."""
        return min((queue[0][1] for queue in self._queues.values()), default=None)

    def _take(self, replicas: int, is_due: Callable[[tuple[int, float, Item]], bool]) -> list[Item]:
        queue = self._queues.get(replicas)
        if queue is None:
            return []
        taken: list[Item] = []
        while queue and is_due(queue[0]):
            taken.append(queue.popleft()[2])
        self._count -= len(taken)
        if not queue:
            del self._queues[replicas]
        return taken
