"""Finds the way back to an upstream that stands further up in a replica's list.

A replica takes the next of its list where one is gone, at the end the master. It would stay there,
and a relay that is back would have nobody. So every now and then those before the one that is
followed are listened to; the first that is alive, and hears a master itself, is followed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from synap.replication.following.listening import heard_beat
from synap.replication.following.upstreams import Upstream, Upstreams
from synap.replication.rules.messages import Heartbeat

if TYPE_CHECKING:
    from synap.config.keys import Config

Listen = Callable[[str], Awaitable[Heartbeat | None]]


class WayBack:
    """The look, as a task. All methods belong to one loop."""

    def __init__(
        self,
        config: Config,
        upstreams: Upstreams,
        on_found: Callable[[Upstream], None],
        listen: Listen | None = None,
    ) -> None:
        """
        Args:
            config: Names this node, and says how often to look: `replication.replica_timeout_secs`.
            upstreams: The list.
            on_found: Told of one that is to be followed again.
            listen: Returns a heartbeat of a node; None for the sockets.
        """
        self._name = config.server.node_id
        self._seconds = config.replication.replica_timeout_secs
        self._upstreams = upstreams
        self._on_found = on_found
        self._listen = listen or (lambda address: heard_beat(config, address))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, where there is anything to look for."""
        if len(self._upstreams) > 1:
            self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            found = await self.find()
            if found is not None:
                self._on_found(found)

    async def find(self) -> Upstream | None:
        """Return the first one before the current one that may be followed; None for none."""
        for upstream in self._upstreams.before_current():
            beat = await self._listen(upstream.stream)
            if beat is not None and self._is_good(beat):
                return upstream
        return None

    def _is_good(self, beat: Heartbeat) -> bool:
        return self._name not in beat.path and beat.age_ms < self._seconds * 1000
