"""How the writer stands, put on the node's board."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from synap.eviction.evictor import Evictor
from synap.frame import Frame
from synap.node.data_dir import DataDir
from synap.replication.rules.reigns import rank
from synap.shared.board import (
    AwaitedFacts,
    Board,
    BoardView,
    NodeDetails,
    ReplicaFacts,
    SnapshotFacts,
    StoreHealth,
)


class FramePublisher(Protocol):
    """What the writer needs of the replication side. Nothing here may block."""

    def publish(self, frame: Frame) -> None:
        """Send a committed frame to whoever listens."""

    def replicas(self) -> tuple[ReplicaFacts, ...]:
        """Return what is known of each replica."""

    def awaited(self) -> tuple[AwaitedFacts, ...]:
        """Return the replicas that the master waits for before it takes writes."""

    def holder_count(self) -> int:
        """Return how many replicas are connected whose acks may count for a quorum."""

    def held_offset(self, replicas: int) -> int:
        """Return the last offset that `replicas` replicas, at least one, hold in their WALs."""


class QuorumWatch:
    """Whether the replicas that every write waits for can be reached, or lately could.

    A node that was only just started, or whose replica is being restarted, has not lost them yet.
    """

    def __init__(self, wanted: int, patience_ns: int, now_ns: int) -> None:
        """
        Args:
            wanted: How many replicas a write waits for.
            patience_ns: How long fewer may be reachable.
            now_ns: Monotonic clock.
        """
        self._wanted = wanted
        self._patience_ns = patience_ns
        self._reached_ns = now_ns

    def look(self, holders: int, now_ns: int) -> bool:
        """Take how many are connected now; return whether the quorum still counts as there."""
        if holders >= self._wanted:
            self._reached_ns = now_ns
        return now_ns - self._reached_ns < self._patience_ns


class WriterStatus:
    """Shows a writer's view and details."""

    def __init__(
        self,
        board: Board,
        data_dir: DataDir,
        view: BoardView,
        publisher: FramePublisher | None,
        evictor: Evictor | None,
        snapshots: Callable[[], SnapshotFacts],
        clock_held: Callable[[], float] = float,
        quorum: QuorumWatch | None = None,
        store_health: Callable[[], StoreHealth] = StoreHealth,
    ) -> None:
        """
        Args:
            board: The node's.
            data_dir: The writer's.
            view: What the writer does not know by itself: role, owner, URL.
            publisher: Where frames go; None on a standalone node.
            evictor: Keeps the memory limit; None without one.
            snapshots: Tells how the node's snapshots stand.
            quorum: Watches whether enough replicas can be reached; None where none are wanted.
            clock_held: Tells by how many seconds the machine's clock jumped, unconfirmed.
            store_health: Tells what is known of the store's records.
        """
        self._board = board
        self._data_dir = data_dir
        self._view = view
        self._publisher = publisher
        self._evictor = evictor
        self._snapshots = snapshots
        self._clock_held = clock_held
        self._quorum = quorum
        self._store_health = store_health

    def show(
        self, read_only: str, heir_url: str, lease_until_ns: int = 0, alone_until_ns: int = 0
    ) -> None:
        """Show what requests need to know.

        Args:
            read_only: Why no writes are taken; empty where they are.
            heir_url: The master after this one; empty for none.
            lease_until_ns: CLOCK_BOOTTIME at which its lease ends; 0 for never.
            alone_until_ns: CLOCK_BOOTTIME until which no other node can be the master.
        """
        view = self._view
        offset = self._data_dir.position.offset
        reign = self._data_dir.node.reign
        assert reign is not None, "a node without a reign has no writer"
        now_ns = time.monotonic_ns()
        self._board.publish(
            BoardView(
                role=view.role,
                owner_pid=view.owner_pid,
                generation=self._data_dir.store.generation,
                epoch=reign.epoch,
                history=reign.history,
                applied_offset=offset,
                master_offset=offset,
                tick_ns=now_ns,
                read_only=read_only,
                master_url=heir_url or view.master_url,
                first_sync_done=True,
                has_quorum=self._has_quorum(now_ns),
                lease_until_ns=lease_until_ns,
                alone_until_ns=alone_until_ns,
            )
        )

    def _has_quorum(self, now_ns: int) -> bool:
        if self._quorum is None or self._publisher is None:
            return True
        return self._quorum.look(self._publisher.holder_count(), now_ns)

    def show_details(self, request_records: int = 0, request_bytes: int = 0) -> None:
        """Show what the status endpoints tell.

        Args:
            request_records: How many requests are remembered that may be sent again.
            request_bytes: What these records take up.
        """
        wal = self._data_dir.wal
        evictor = self._evictor
        publisher = self._publisher
        self._board.publish_details(
            NodeDetails(
                wal_bytes=wal.size_bytes,
                wal_segments=wal.segment_count,
                wal_first_offset=wal.first_offset,
                wal_damage=wal.damage,
                rank=rank(self._data_dir.lineage, self._data_dir.position.offset),
                last_fsync_ms=wal.last_sync_ms,
                used_bytes=evictor.used_bytes if evictor is not None else 0,
                limit_bytes=evictor.limit_bytes if evictor is not None else 0,
                replicas=publisher.replicas() if publisher is not None else (),
                sealed_epoch=self._data_dir.node.identity.sealed_epoch,
                sealed_for=self._data_dir.node.identity.sealed_for,
                awaited=publisher.awaited() if publisher is not None else (),
                snapshots=self._snapshots(),
                clock_held_seconds=self._clock_held(),
                store_health=self._store_health(),
                request_records=request_records,
                request_bytes=request_bytes,
            )
        )
