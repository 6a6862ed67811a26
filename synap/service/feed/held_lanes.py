"""Lanes of watchers that are told only what so many replicas hold.

A master knows that by their acks: its log's owner is asked. A replica knows what its master tells
in heartbeats, which stands on the board.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from synap.errors import ReadOnlyReplica, SynapError
from synap.place import Place
from synap.request_errors import InvalidRequest
from synap.service.feed.tailed_log import TailedLog
from synap.service.local_node import LocalNode
from synap.watch.lane import Lane

RequireHeld = Callable[[int, int], Awaitable[None]]
"""Waits until so many replicas hold an offset; see `NodeApi.require_held`."""

_RETRY_SECONDS = 0.1


class HeldLanes:
    """A lane for each number of replicas, from 1, that somebody asks for."""

    def __init__(
        self,
        node: LocalNode,
        log: TailedLog,
        require_held: RequireHeld,
        send_away: Callable[[Lane], None],
    ) -> None:
        """
        Args:
            send_away: Ends the watchers of a lane: this node does not know what replicas hold.
        """
        self._node = node
        self._log = log
        self._require_held = require_held
        self._send_away = send_away
        self._lanes: dict[int, Lane] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        # When a lane whose question failed may ask again.
        self._retry_at = 0.0

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def check(self) -> None:
        """Check that this node knows what replicas hold.

        Raises:
            ReadOnlyReplica: it follows a master that does not tell.
            InvalidRequest: it has no replicas.
        """
        role = self._node.role
        if role == "standalone":
            raise InvalidRequest("this node has no replicas")
        if role == "replica" and self._node.view.held is None:
            raise ReadOnlyReplica(
                "this node is a replica, and its master is of a version that does not tell what "
                "others hold: ask the master"
            )

    def lane(self, replicas: int) -> Lane:
        """Return the lane of so many replicas."""
        return self._lanes.setdefault(replicas, Lane(0))

    def drop(self, lane: Lane) -> None:
        """Ask no more for a lane that is empty."""
        for replicas, each in tuple(self._lanes.items()):
            if each is lane:
                del self._lanes[replicas]
                if (task := self._asking.pop(replicas, None)) is not None:
                    task.cancel()

    def close(self) -> None:
        """Drop all of them."""
        for lane in tuple(self):
            self.drop(lane)

    def look(self) -> None:
        """Move on what can be, and see to it that the rest is asked for."""
        if not self._lanes:
            return
        is_replica = self._node.role == "replica"
        may_ask = time.monotonic() >= self._retry_at
        for replicas, lane in tuple(self._lanes.items()):
            if is_replica:
                self._move_by_board(replicas, lane)
            elif may_ask and self._log.ring.head > lane.head and replicas not in self._asking:
                self._asking[replicas] = asyncio.create_task(self._ask(replicas, lane))

    def _move_by_board(self, replicas: int, lane: Lane) -> None:
        view = self._node.view
        if view.held is None:
            self._send_away(lane)
        elif replicas <= len(view.held):
            log = self._log
            head = min(view.held[replicas - 1], log.ring.head)
            here = Place(log.ring.head, log.reigns.tag_of(log.ring.head))
            # The board and the store change one after the other: what the board says must be of the
            # log that is followed, or of one that goes on from it.
            if head > lane.head and self._node.reigns(view.history).holds(here):
                self._move(lane, head)

    async def _ask(self, replicas: int, lane: Lane) -> None:
        """Move a lane on to what is applied now, when so many replicas hold it."""
        ring = self._log.ring
        head = ring.head
        try:
            await self._require_held(head, replicas)
        except SynapError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            is_known = isinstance(error, ReadOnlyReplica | InvalidRequest)
            if is_known and self._node.role != "replica":
                # It is no master any more, nor a replica yet.
                self._send_away(lane)
        else:
            if ring is self._log.ring:
                self._move(lane, head)
        finally:
            if self._asking.get(replicas) is asyncio.current_task():
                del self._asking[replicas]
        self.look()

    def _move(self, lane: Lane, head: int) -> None:
        lane.advance(self._log.ring.after(lane.head, head), head)
