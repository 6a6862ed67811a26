"""Every error that Synap raises on purpose, as one tree.

    SynapError
    ├── StartError                 a node can't start
    │   ├── ConfigInvalid          the configuration has faults
    │   ├── PortInUse              something else listens where the node should
    │   ├── DataDirInUse           another process owns the data directory
    │   └── DataDirUnusable        the data directory holds something unexpected
    ├── LogError                   the write-ahead log
    │   ├── FrameTruncated         the bytes end inside a frame
    │   ├── FrameCorrupt           the bytes are no frame
    │   ├── WalCorrupt             a bad frame with more log after it
    │   ├── WalFailed              the disk refused a write or a sync for good
    │   ├── OffsetNotRetained      the log no longer reaches back that far
    │   ├── OffsetUnknown          no frame of the log ends at that offset
    │   ├── OffsetGap              a frame does not follow the one before it
    │   └── StaleEpoch             a frame of a reign that has ended
    ├── StoreError                 the live store
    │   └── StoreUnusable          it can't be opened or trusted
    ├── SnapshotError              a snapshot can't be taken
    │   └── SnapshotInvalid        a file is no sound snapshot
    ├── BackupError                backups, restores and repairs
    │   ├── BackupInvalid          a file is no sound backup
    │   ├── BackupFailed           a backup could not be fetched or written
    │   ├── RestoreRefused         what is asked for can't be restored
    │   └── RepairRefused          what is asked for can't be repaired
    ├── CommandError               the request is at fault: see `request_errors`
    ├── AccessRefused              who asks may not: the same
    ├── WriteRefused               a sound write that this node can't take now
    │   ├── ReadOnlyReplica        writes go to the master
    │   ├── WriterUnavailable      no writer took it; nothing changed
    │   ├── OutcomeUnknown         the writer went away with it
    │   ├── QuorumTimeout          logged here, but too few replicas have it in time
    │   ├── ReignEnded             a higher epoch was met; this master takes no more writes
    │   ├── NoLease                the engine of elections has not said that it is the master
    │   ├── Recovering             replicas are asked for what this master may have lost
    │   ├── DataDirLost            its files are no longer where it opened them
    │   ├── WritesPaused           the node is about to hand its role over; nothing changed
    │   ├── SlotMoving             the key's slot is on its way to another cluster
    │   ├── DiskFull               no room on the disk
    │   └── MemoryLimit            the store's map or kv_store.max_memory_mb is full
    ├── SlotElsewhere              the key's slot is another cluster's
    ├── ReadRefused                a sound read that this node can't serve now
    │   ├── Starting               the live store is not open yet
    │   ├── BackupRunning          another backup is being taken
    │   ├── ExportsRunning         as many exports are under way as may be
    │   ├── ExportTooLong          an export took longer than it may
    │   ├── NotCaughtUp            what the read is to see was not applied in time
    │   ├── PositionLost           what the read is to see is no part of this node's log
    │   ├── WatchersFull           as many watch this node as may
    │   ├── FeedReset              the log does not go on from where a watcher was
    │   │   ├── FeedCompacted      it begins later
    │   │   └── FeedDiverged       it is another one
    │   └── Syncing                the first synchronisation has not ended
    ├── RoleError                  a change of role can't be made
    │   ├── ForceWanted            it would lose something, and was not forced
    │   ├── NotPaused              only a master whose writes pause steps down
    │   ├── SealRefused            this node knows a reign that is not below the one to begin
    │   └── AgentRuns              roles are the fail-over agent's to change
    ├── LeaseLost                  too late to tell what became of a write
    └── ReplicationError           between master and replica
        ├── ProtocolViolation      a message that the protocol does not allow
        ├── LinkLost               the master fell silent
        │   └── UpstreamOrphaned   the relay that was followed is without a master itself
        ├── HandshakeFailed        it is not the master, or does not let this replica in
        ├── NothingToAccept        the replica waits for no word of the operator
        ├── ReplicaUnknown         the master knows no replica of that name
        └── ReplicaHeard           a replica that is there is not forgotten

A class's docstring is its default message. `reason` is the word that clients see;
`retryable` says whether the same request may be sent again without harm.
"""

from __future__ import annotations

from collections.abc import Iterator


class SynapError(Exception):
    """Synap failed."""

    reason = "internal_error"
    retryable = False

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)

    @classmethod
    def kinds(cls) -> Iterator[type[SynapError]]:
        """Yield the class and all below it, those whose modules are imported."""
        yield cls
        for each in cls.__subclasses__():
            yield from each.kinds()


class StartError(SynapError):
    """The node can't start."""

    reason = "start_failed"


class ConfigInvalid(StartError):
    """The configuration is not valid."""

    reason = "config_invalid"

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class PortInUse(StartError):
    """A port that the node needs is in use; stop what listens there or choose another one."""

    reason = "port_in_use"


class DataDirInUse(StartError):
    """Another process owns this data directory; stop it first or choose another one."""

    reason = "data_dir_in_use"


class DataDirUnusable(StartError):
    """The data directory can't be used."""

    reason = "data_dir_unusable"


class LogError(SynapError):
    """The write-ahead log failed."""

    reason = "log_error"


class FrameTruncated(LogError):
    """The bytes end inside a frame."""

    reason = "frame_truncated"


class FrameCorrupt(LogError):
    """The bytes are not a whole frame."""

    reason = "frame_corrupt"


class WalCorrupt(LogError):
    """The write-ahead log is damaged before its end."""

    reason = "wal_corrupt"

    def __init__(self, path: str, byte_position: int, detail: str) -> None:
        self.path = path
        self.byte_position = byte_position
        self.detail = detail
        super().__init__(
            f"{path} is damaged at byte {byte_position}: {detail}. "
            "Nothing was changed; `synap wal repair` on its folder shows what can be kept."
        )


class WalFailed(LogError):
    """The disk refused to write or to sync the log."""

    reason = "wal_failed"


class OffsetNotRetained(LogError):
    """The log no longer holds this offset."""

    reason = "offset_not_retained"

    def __init__(self, offset: int, first_offset: int) -> None:
        self.offset = offset
        self.first_offset = first_offset
        super().__init__(f"offset {offset} is no longer in the log, which begins at {first_offset}")


class OffsetUnknown(LogError):
    """No frame of the log ends at this offset."""

    reason = "offset_unknown"


class OffsetGap(LogError):
    """A frame does not follow the one before it."""

    reason = "offset_gap"


class StaleEpoch(LogError):
    """A frame of a reign that has ended."""

    reason = "stale_epoch"


class StoreError(SynapError):
    """The live store failed."""

    reason = "store_error"


class StoreDamaged(StoreError):
    """The live store's pages are damaged; it is to be rebuilt from snapshot and log.

    Attributes:
        generation: That of the store; 0 where it is not told.
    """

    reason = "store_damaged"
    generation = 0


class StoreUnusable(StoreError):
    """The live store can't be opened or trusted."""

    reason = "store_unusable"


class VerifyFailed(SynapError):
    """The look at all records of the store did not come to its end."""

    reason = "verify_failed"
    retryable = True


class SnapshotError(SynapError):
    """The snapshot could not be taken."""

    reason = "snapshot_failed"
    retryable = True


class SnapshotInvalid(SnapshotError):
    """The file is no sound snapshot."""

    reason = "snapshot_invalid"
    retryable = False

    def __init__(self, path: object, why: str) -> None:
        self.path = str(path)
        self.why = why
        super().__init__(f"{path} is no sound snapshot: {why}")


class BackupError(SynapError):
    """A backup or restore failed."""

    reason = "backup_error"


class BackupInvalid(BackupError):
    """The file is no sound backup."""

    reason = "backup_invalid"

    def __init__(self, path: object, why: str) -> None:
        self.path = str(path)
        self.why = why
        super().__init__(f"{path} is no sound backup: {why}")


class BackupFailed(BackupError):
    """The backup could not be fetched or written."""

    reason = "backup_failed"


class RestoreRefused(BackupError):
    """This can't be restored."""

    reason = "restore_refused"


class RepairRefused(BackupError):
    """This can't be repaired."""

    reason = "repair_refused"


class WriteRefused(SynapError):
    """The write was refused."""

    reason = "write_refused"


class ReadOnlyReplica(WriteRefused):
    """This node is a replica and takes no writes."""

    reason = "read_only_replica"


NO_LONGER_MASTER = "this node is no longer the master, nothing was changed; ask the new one"
"""Message of `ReadOnlyReplica` where a write waited for a master that handed its role over."""


class WriterUnavailable(WriteRefused):
    """The writer is not running; nothing was changed, try again."""

    reason = "writer_unavailable"
    retryable = True


class OutcomeUnknown(WriteRefused):
    """The writer did not answer after it took the write; it may or may not have happened."""

    reason = "outcome_unknown"


class QuorumTimeout(WriteRefused):
    """The write is logged on the master; whether replicas have it is unknown."""

    reason = "quorum_timeout"


class ReignEnded(WriteRefused):
    """This master has met a higher epoch and takes no writes.

    `synap follow` makes it a replica of the new master, `synap promote --force` a master again.
    """

    reason = "stale_epoch"

    def __init__(self, epoch: int) -> None:
        super().__init__(
            f"this master has met epoch {epoch}, which reigns in its place, and takes no writes; "
            "`synap follow` makes it a replica of the new master"
        )


class Recovering(WriteRefused):
    """This master may have lost the end of its log and waits for its replicas; try again.

    Nothing was changed. `synap promote --force` goes on without them, and gives up what only they
    hold.
    """

    reason = "recovering"
    retryable = True

    def __init__(self, awaited: str = "its replicas") -> None:
        super().__init__(
            f"this master may have lost the end of its log and waits for {awaited}; nothing was "
            "changed, try again. `synap promote --force` goes on without, and gives up what only "
            "they hold"
        )


class NoLease(WriteRefused):
    """This master's lease is over, or not granted yet, and nothing was changed; try again."""

    reason = "no_lease"
    retryable = True


class LeaseLost(SynapError):
    """The lease ended between a write and its answer, and so the log's owner ends."""

    reason = "lease_lost"


class DataDirLost(WriteRefused):
    """The node's files were deleted or moved while it ran; nothing was changed, and it ends."""

    reason = "data_dir_lost"
    retryable = True

    def __init__(self, what: str = "") -> None:
        super().__init__(
            f"the node's files were deleted or moved while it ran, and it ends: {what or 'unknown'}"
        )


class WritesPaused(WriteRefused):
    """This master is about to hand its role over; nothing was changed, try again."""

    reason = "writes_paused"
    retryable = True


class DiskFull(WriteRefused):
    """The disk is full; reads go on, and writes do when there is room."""

    reason = "disk_full"
    retryable = True


class MemoryLimit(WriteRefused):
    """The store is full; delete keys or raise kv_store.max_memory_mb."""

    reason = "memory_limit"
    retryable = True


class SlotMoving(WriteRefused):
    """The slot of this key is on its way to another cluster; nothing was changed, try again."""

    reason = "slot_moving"
    retryable = True


class SlotElsewhere(SynapError):
    """The slot of this key belongs to another cluster.

    Attributes:
        slot: Its number.
        cluster: That cluster's name.
        url: Where it is.
    """

    reason = "slot_elsewhere"

    def __init__(self, slot: int, cluster: str, url: str) -> None:
        self.slot = slot
        self.cluster = cluster
        self.url = url
        super().__init__(f"slot {slot} belongs to cluster {cluster}, at {url}; nothing was done")


class ReadRefused(SynapError):
    """The read was refused."""

    reason = "read_refused"
    retryable = True


class Starting(ReadRefused):
    """This node has not opened its store yet; try again."""

    reason = "starting"


class BackupRunning(ReadRefused):
    """Another backup of this node is being taken; try again when it has ended."""

    reason = "backup_running"


class ExportsRunning(ReadRefused):
    """Two exports of this node are under way; try again when one has ended."""

    reason = "exports_running"


class ExportTooLong(ReadRefused):
    """The export took longer than server.export_timeout_secs."""

    reason = "export_too_long"


class NotCaughtUp(ReadRefused):
    """This node has not applied what the request asks for."""

    reason = "not_caught_up"


class NotHeld(ReadRefused):
    """Too few replicas hold what was read; it may be lost with this master. Try again."""

    reason = "not_held"


class PositionLost(ReadRefused):
    """The position that the request asks for is no part of this node's log."""

    reason = "position_lost"
    retryable = False


class WatchersFull(ReadRefused):
    """This node has as many watchers as it may, or is about to stop; try again, or ask another."""

    reason = "overloaded"

    def __init__(self, retry_seconds: int = 1) -> None:
        self.retry_seconds = retry_seconds
        super().__init__()


class FeedReset(ReadRefused):
    """The log does not go on from there: what was read up to there must be read anew.

    Attributes:
        oldest: The first position from which the log can be followed.
        common: The last one that is on this node's log too; None where none is.
    """

    reason = "reset"
    retryable = False

    def __init__(self, oldest: str, common: str | None) -> None:
        self.oldest = oldest
        self.common = common
        super().__init__((type(self).__doc__ or "").partition("\n")[0])


class FeedCompacted(FeedReset):
    """The log begins after that position; read the keys anew."""

    reason = "compacted"


class FeedDiverged(FeedReset):
    """That position is no part of this node's log; read the keys anew."""

    reason = "diverged"


class Syncing(ReadRefused):
    """This replica has not finished its first synchronisation."""

    reason = "syncing"


class RoleError(SynapError):
    """The role can't be changed."""

    reason = "role_error"


class ForceWanted(RoleError):
    """The change of role would lose something; use --force (over HTTP `force`) to do it anyway."""

    reason = "force_wanted"


class NotPaused(RoleError):
    """The writes of this node do not pause, or something was logged since; nothing was changed."""

    reason = "not_paused"


class SealRefused(RoleError):
    """This node knows a reign that is not below the one to begin; nothing was changed."""

    reason = "seal_refused"


class AgentRuns(RoleError):
    """The fail-over agent changes the roles; nothing was changed.

    `synap failover switchover` moves the master through it, `synap failover pause` stops it.
    """

    reason = "agent_runs"


class ReplicationError(SynapError):
    """Replication failed."""

    reason = "replication_error"


class ProtocolViolation(ReplicationError):
    """The peer sent what the protocol does not allow."""

    reason = "protocol_violation"


class LinkLost(ReplicationError):
    """The master fell silent."""

    reason = "link_lost"


class UpstreamOrphaned(LinkLost):
    """The relay that was followed has heard no master for too long."""


class HandshakeFailed(ReplicationError):
    """The connection to the master failed; its keys are not what they should be."""

    reason = "handshake_failed"


class NothingToAccept(ReplicationError):
    """This replica is not diverged from a master that it hears; there is nothing to accept."""

    reason = "nothing_to_accept"


class ReplicaUnknown(ReplicationError):
    """This node knows no replica of that name."""

    reason = "replica_unknown"


class ReplicaHeard(ReplicationError):
    """The replica is connected; stop it first, for it would be known again at once."""

    reason = "replica_heard"
