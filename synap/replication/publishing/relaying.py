"""A relay: the publisher of a replica, which sends on what the replica has appended.

It stands between the follower and the log: what the follower appends goes into the stream next, the
same bytes. While a snapshot takes the log's place it is away, and those that follow it notice by
the silence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from synap.frame import Frame
from synap.position import Lineage, Position
from synap.replication.publishing.publisher import PublishedLog, Publisher, PublisherHooks
from synap.replication.publishing.snapshot_service import SnapshotSource
from synap.replication.rules.ancestry import Ancestry
from synap.replication.rules.follower_io import ReplicaLog
from synap.replication.rules.record_copies import Records
from synap.shared.board import ReplicaFacts
from synap.shared.series import Count

if TYPE_CHECKING:
    from synap.config.keys import Config


class RelayedLog(PublishedLog, ReplicaLog, Protocol):
    """The log of a replica that is published."""


class Relay:
    """The engine. All methods belong to the loop that `start` was called on.

    Attributes:
        above: Tells of the nodes above; set before `start`.
        log: What the follower is to append to.
    """

    def __init__(
        self,
        config: Config,
        log: RelayedLog,
        snapshots: SnapshotSource | None,
        *,
        count: Count,
        records: Records | None,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """
        Args:
            config: Addresses, intervals and bounds; `replication` and `server`.
            log: The replica's, which outlives the relay.
            snapshots: Its snapshots.
            count: Counts failed handshakes and violations.
            records: The live store, for those that follow.
            on_failure: Called with an error after which the process must end.
        """
        self.above: Callable[[], Ancestry | None] = _nobody
        self.log: ReplicaLog = _Relayed(log, self._send_on)
        self._parts = config, log, snapshots, count, records
        self._on_failure = on_failure
        self._publisher: Publisher | None = None

    async def start(self) -> None:
        """Bind both sockets and serve.

        Raises:
            StartError: An address can't be bound.
        """
        config, log, snapshots, count, records = self._parts
        publisher = Publisher(
            config, log, snapshots, count=count, records=records, above=self._ancestry
        )
        await publisher.start(
            PublisherHooks(
                on_ack=_nothing,
                on_higher_epoch=_no_reign,
                on_replica=_note_nobody,
                addresses=tuple,
                is_known=_counts_for_nothing,
                on_restart_over=_nothing,
                on_failure=self._on_failure,
            )
        )
        self._publisher = publisher

    async def stop(self) -> None:
        """Close both sockets, where they were bound."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.stop()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Serve nobody meanwhile: the log is another one afterwards."""
        was_there = self._publisher is not None
        await self.stop()
        yield
        if was_there:
            await self.start()

    def beat(self) -> None:
        """Tell those that follow what was just heard from above."""
        if self._publisher is not None:
            self._publisher.beat()

    def replicas(self) -> tuple[ReplicaFacts, ...]:
        """Return those that follow this node, by name."""
        return self._publisher.replicas() if self._publisher is not None else ()

    def _ancestry(self) -> Ancestry | None:
        return self.above()

    def _send_on(self, frames: Sequence[Frame]) -> None:
        if self._publisher is not None:
            self._publisher.relay(frames)


class _Relayed:
    """A replica's log that tells what was appended."""

    def __init__(self, log: ReplicaLog, on_appended: Callable[[Sequence[Frame]], None]) -> None:
        self._log = log
        self._on_appended = on_appended

    @property
    def position(self) -> Position:
        return self._log.position

    @property
    def lineage(self) -> Lineage:
        return self._log.lineage

    @property
    def sealed_epoch(self) -> int:
        return self._log.sealed_epoch

    @property
    def sealed_for(self) -> str:
        return self._log.sealed_for

    @property
    def has_synced(self) -> bool:
        return self._log.has_synced

    def note_synced(self) -> None:
        self._log.note_synced()

    def append_frames(self, frames: Sequence[Frame]) -> None:
        self._log.append_frames(frames)
        self._on_appended(frames)

    def adopt(self, lineage: Lineage) -> None:
        self._log.adopt(lineage)

    def frames_behind(self, position: Position, limit_bytes: int) -> bytes:
        return self._log.frames_behind(position, limit_bytes)


def _nobody() -> None:
    """There is nobody above yet."""


def _nothing() -> None:
    """Nobody waits for acks here, and no reign begins."""


def _no_reign(epoch: int) -> None:
    """Nothing ends a reign here."""


def _note_nobody(name: str, address: str, seats: object) -> None:
    """Nobody is asked at the next start."""


def _counts_for_nothing(name: str) -> bool:
    return False
