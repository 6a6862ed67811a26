"""Shows how a replica stands on its node's board, for the HTTP workers and the supervisor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from synap.addresses import reachable_url, split_address
from synap.node.data_dir import DataDir
from synap.replication.following.freshness import Freshness
from synap.replication.rules.follower_io import FollowerStatus
from synap.replication.rules.progress import NS_PER_MS, LinkState
from synap.replication.rules.reigns import rank
from synap.shared.board import (
    Board,
    BoardView,
    MasterFacts,
    NodeDetails,
    ReplicaFacts,
    SnapshotFacts,
    StoreHealth,
)
from synap.shared.node_clock import ClockWord, measured_offset

_DETAILS_EVERY_NS = 500 * NS_PER_MS
# What the clocks of two machines may differ by without a word.
_TOLD_SKEW_SECONDS = 1.0


class ReplicaBoard:
    """The subscriber's `StatusBoard`."""

    def __init__(
        self,
        board: Board,
        data_dir: DataDir,
        master_address: str,
        snapshots: Callable[[], SnapshotFacts],
        freshness: Freshness,
        store_health: Callable[[], StoreHealth] = StoreHealth,
        peers: Callable[[], tuple[str, ...]] = tuple,
        replicas: Callable[[], tuple[ReplicaFacts, ...]] = tuple,
        upstream: Callable[[], str] = str,
    ) -> None:
        """
        Args:
            board: Open; this process alone writes to it.
            data_dir: The node's log.
            master_address: The master's PUB socket.
            snapshots: Tells how the node's snapshots stand.
            freshness: Keeps how old the data is over restarts.
            store_health: Tells what is known of the store's records.
            peers: Tells where the master's replicas would be as masters.
            replicas: Tells who follows this node.
            upstream: Tells the PUB socket of whom it follows.
        """
        self._board = board
        self._clock = ClockWord(board.clock)
        self._data_dir = data_dir
        self._master_address = master_address
        self._master_host = split_address(master_address)[0]
        self._snapshots = snapshots
        self._freshness = freshness
        self._store_health = store_health
        self._peers = peers
        self._replicas = replicas
        self._upstream = upstream
        self._detailed_ns = 0
        self._detailed: tuple[LinkState, str] | None = None

    def show_details_next(self) -> None:
        """Have the details be shown with the next status."""
        self._detailed = None

    def show(self, status: FollowerStatus) -> None:
        """Show `status`, and now and then the details."""
        now_ns = time.monotonic_ns()
        self._freshness.note(status, now_ns)
        self._clock.offset = status.clock_offset_ns or self._clock.offset or measured_offset()
        self._board.publish(
            BoardView(
                role="replica",
                status=status.state.value,
                owner_pid=os.getpid(),
                generation=self._data_dir.store.generation,
                epoch=status.epoch,
                history=status.history,
                applied_offset=status.position.offset,
                master_offset=status.master_offset,
                lag_since_ns=status.lag_since_ns,
                last_contact_ns=status.last_contact_ns,
                fresh_ns=status.fresh_ns,
                heartbeat_ns=status.heartbeat_ns,
                tick_ns=now_ns,
                master_url=reachable_url(status.master_url, self._master_host),
                first_sync_done=status.has_synced,
                held=status.held,
                hops=status.hops,
            )
        )
        detailed = (status.state, status.note)
        if now_ns - self._detailed_ns >= _DETAILS_EVERY_NS or detailed != self._detailed:
            self._detailed_ns, self._detailed = now_ns, detailed
            self._show_details(status, now_ns)

    def _show_details(self, status: FollowerStatus, now_ns: int) -> None:
        wal = self._data_dir.wal
        last_sync_ms = 0
        if status.synced_ns:
            last_sync_ms = (time.time_ns() - now_ns + status.synced_ns) // NS_PER_MS
        note = f"{status.reason}: {status.note}" if status.reason else status.note
        skew_seconds = (self._clock.offset - measured_offset()) / 1e9
        self._board.publish_details(
            NodeDetails(
                wal_bytes=wal.size_bytes,
                wal_segments=wal.segment_count,
                wal_first_offset=wal.first_offset,
                wal_damage=wal.damage,
                rank=rank(self._data_dir.lineage, self._data_dir.position.offset),
                last_fsync_ms=wal.last_sync_ms,
                master_address=self._master_address,
                last_sync_ms=last_sync_ms,
                link_note=note or _skew_note(skew_seconds),
                clock_skew_seconds=skew_seconds,
                snapshots=self._snapshots(),
                store_health=self._store_health(),
                sealed_epoch=self._data_dir.node.identity.sealed_epoch,
                sealed_for=self._data_dir.node.identity.sealed_for,
                voters=self._peers(),
                replicas=self._replicas(),
                upstream=self._upstream(),
                path=status.path,
                master=_master_of(status),
            )
        )


def _master_of(status: FollowerStatus) -> MasterFacts:
    about = status.about
    return MasterFacts(
        status.master, about.version, about.snapshot_ms, about.read_only, status.lease_until_ns
    )


def _skew_note(seconds: float) -> str:
    """Return what an operator should know of the two clocks; empty for nothing."""
    if abs(seconds) < _TOLD_SKEW_SECONDS:
        return ""
    where = "behind" if seconds > 0 else "ahead of"
    return (
        f"this machine's clock is {abs(seconds):.1f} s {where} its master's, by which keys expire; "
        "set both right"
    )
