"""The board: what the log's owner tells the node's other processes, in shared memory.

The owner writes, any number of HTTP workers and the supervisor read, nobody waits. Reading an
unchanged board costs one 8-byte load, so that every request can look. Two areas of one mapped file:
the view, which is small and changes with the role and the replication link, and the details for
`/stats` and `/health/replication`. Each is guarded by a sequence number which is odd while its area
is being written (a seqlock), and by a CRC.

    at     size  field of an area
     0      8    sequence number
     8      4    length of the content in bytes
    12      4    CRC-32 of the content
    16           content, MessagePack

The last 8 bytes of the view's place are a word of the supervisor's: not 0 while the node drains.
The 8 before them are the owner's clock, see `node_clock`.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Generic, TypeVar
from zlib import crc32

import msgspec

from synap.errors import DataDirLost, NoLease, Recovering, ReignEnded, SynapError, WriterUnavailable
from synap.shared.node_file import map_needed_file

_VIEW_BYTES = 4096
_DRAINING_AT = _VIEW_BYTES - 8
_CLOCK_AT = _VIEW_BYTES - 16
_DETAILS_BYTES = 1024 * 1024 - _VIEW_BYTES
_AREA = struct.Struct("<II")
_CONTENT_AT = 16
_TRIES = 1000
# A process that has read nothing yet waits so long for a writer that stands halfway through.
_FIRST_WAIT_SECONDS = 1.0


# What `BoardView.read_only` says where no write is taken, and none will be soon.
_NO_WRITES = (
    ReignEnded.reason,
    Recovering.reason,
    DataDirLost.reason,
    NoLease.reason,
    WriterUnavailable.reason,
)


class BoardView(msgspec.Struct, frozen=True, array_like=True):
    """What every request may need to know.

    Attributes:
        role: `standalone`, `master` or `replica`; empty until the owner has started.
        status: The replica's link, in the words of the contract; empty on other roles.
        owner_pid: Process id of the log's owner; 0 until it has started.
        generation: The live store's generation in use.
        epoch: The newest reign.
        history: Its 16 bytes.
        applied_offset: Last offset in the live store when this was written.
        master_offset: Last offset that the master is known to have; the own one on a master.
        lag_since_ns: Since when (CLOCK_MONOTONIC) something is unapplied; 0 for nothing.
        last_contact_ns: When (CLOCK_MONOTONIC) the master was last heard; 0 for never.
        heartbeat_ns: Time between two heartbeats of the master.
        tick_ns: When (CLOCK_MONOTONIC) the owner's loop last came round.
        read_only: Why the owner takes no writes; empty where it does.
        master_url: Where writes go instead; empty where that is unknown.
        has_quorum: False on a master that has not reached for replication.replica_timeout_secs as
            many replicas as every write waits for.
        first_sync_done: False on a replica that never held a whole state of its master.
        fresh_ns: When (CLOCK_MONOTONIC) a master that serves this replica was last heard, over its
            restarts; 0 where nobody knows.
        held: On a replica, the last offset that one replica holds, that two hold, and so on, as its
            master told last; empty while that is not known, None where the master does not tell.
        lease_until_ns: When (CLOCK_BOOTTIME) the lease of a master ends, which an engine of
            elections gives; 0 for never.
        alone_until_ns: Until when (CLOCK_BOOTTIME) no other node can be the master; 0 where nobody
            knows.
        hops: Links between a replica and its master; 0 before anything was heard.
    """

    role: str = ""
    status: str = ""
    owner_pid: int = 0
    generation: int = 0
    epoch: int = 0
    history: bytes = b""
    applied_offset: int = 0
    master_offset: int = 0
    lag_since_ns: int = 0
    last_contact_ns: int = 0
    heartbeat_ns: int = 0
    tick_ns: int = 0
    read_only: str = ""
    master_url: str = ""
    first_sync_done: bool = False
    has_quorum: bool = True
    fresh_ns: int = 0
    lease_until_ns: int = 0
    held: tuple[int, ...] | None = ()
    alone_until_ns: int = 0
    hops: int = 0


def is_alone(view: BoardView) -> bool:
    """Say whether no other node can be the master now, by an engine of elections.

    Whoever asks has read the store before.
    """
    return (
        view.role == "master"
        and view.read_only not in _NO_WRITES
        and time.clock_gettime_ns(time.CLOCK_BOOTTIME) < view.alone_until_ns
    )


def unacknowledged(view: BoardView) -> str:
    """Return the word for why a master can acknowledge no write; empty where it may.

    One without room is not among these: what makes keys smaller is still taken. Nor is a pause,
    which is over in seconds.
    """
    if view.read_only in _NO_WRITES:
        return view.read_only
    # The owner may hang, and say nothing of it.
    until_ns = view.lease_until_ns
    if until_ns and time.clock_gettime_ns(time.CLOCK_BOOTTIME) >= until_ns:
        return NoLease.reason
    return "" if view.has_quorum else "no_quorum"


def lease_left_ms(view: BoardView) -> int | None:
    """Return how long a master's lease still lasts; None where it has no end."""
    if not view.lease_until_ns:
        return None
    left_ns = view.lease_until_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return max(0, left_ns // 1_000_000)


# The log's owner shows a sign of life ten times a second and is restarted within two seconds.
# Longer silence than this means that it is gone or stuck.
_SILENT_OWNER_NS = 5_000_000_000


def owner_silence_ms(view: BoardView) -> int:
    """Return for how long the log's owner has shown no life; 0 where that is no trouble yet."""
    silence_ns = time.monotonic_ns() - view.tick_ns
    return silence_ns // 1_000_000 if view.role and silence_ns > _SILENT_OWNER_NS else 0


def silent_owner(view: BoardView) -> str:
    """Return the word for a log's owner that has begun and shows no life any more; else empty."""
    if not owner_silence_ms(view):
        return ""
    return "replica_silent" if view.role == "replica" else "writer_silent"


class ReplicaFacts(msgspec.Struct, frozen=True):
    """One replica as its master sees it; the fields of `/health/replication`.

    `note` is what the operator should know of it; empty for nothing. `epoch` is that of the entry
    at its offset; 0, and an empty version, are what it did not tell.
    """

    id: str
    address: str
    offset: int
    lag_entries: int
    lag_ms: int
    status: str
    last_ack: int
    url: str = ""
    note: str = ""
    epoch: int = 0
    version: str = ""
    snapshot_at_ms: int = 0


class MasterFacts(msgspec.Struct, frozen=True):
    """A master as its replica hears it.

    Attributes:
        id: Its `server.node_id`; empty until the replica was welcome somewhere.
        version: Of its program; empty where it did not tell.
        snapshot_at_ms: Its wall clock when its newest snapshot was taken; 0 for none, or untold.
        read_only: Why it takes or acknowledges no writes; empty where it does, or did not tell.
        lease_until_ns: When (CLOCK_MONOTONIC) its lease ends; None for never.
    """

    id: str = ""
    version: str = ""
    snapshot_at_ms: int = 0
    read_only: str = ""
    lease_until_ns: int | None = None


class AwaitedFacts(msgspec.Struct, frozen=True):
    """A replica that a master waits for before it takes writes; `note` as in `ReplicaFacts`."""

    id: str
    note: str = ""


class SnapshotFacts(msgspec.Struct, frozen=True):
    """How the node's snapshots stand.

    Attributes:
        count: Snapshots in the folder.
        last_offset: Offset of the newest; 0 for none.
        last_ms: Wall clock when it was taken; 0 for none.
        last_bytes: Size of its image.
        last_seconds: How long it took to write and verify it, where this owner did.
        error: Why the last try failed; empty where it did not.
    """

    count: int = 0
    last_offset: int = 0
    last_ms: int = 0
    last_bytes: int = 0
    last_seconds: float = 0.0
    error: str = ""


class ScrubFacts(msgspec.Struct, frozen=True):
    """How the last look at all records of the store went.

    Attributes:
        last_ms: Wall clock at its end; 0 for never.
        records: Records that were looked at.
        bytes: Their bytes.
        seconds: How long it took.
        damaged: How many were damaged.
        differing: On a replica, how many were not those of its master at one offset.
        error: Why the last try did not come to its end; empty where it did.
    """

    last_ms: int = 0
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    damaged: int = 0
    differing: int = 0
    error: str = ""


class DamageFacts(msgspec.Struct, frozen=True):
    """What of the live store is damaged now, and not mended yet.

    Attributes:
        records: How many records.
        keys: Some of their keys.
        note: Why they are not mended; empty for nothing.
    """

    records: int = 0
    keys: tuple[str, ...] = ()
    note: str = ""


class StoreHealth(msgspec.Struct, frozen=True):
    """What is known of the live store's records.

    Attributes:
        scrub: How the last look at all of them went.
        damage: What is damaged now.
        note: What an operator has to do; empty for nothing.
    """

    scrub: ScrubFacts = ScrubFacts()
    damage: DamageFacts = DamageFacts()
    note: str = ""


class NodeDetails(msgspec.Struct, frozen=True):
    """What the node's status endpoints tell beyond the view.

    Attributes:
        wal_bytes: Bytes of all segments.
        wal_segments: Their number.
        wal_first_offset: Oldest offset in the log.
        wal_damage: What of its files was found damaged; empty for nothing.
        last_fsync_ms: Wall clock of the newest sync of the log; 0 for none.
        master_address: The master's PUB address, on a replica.
        last_sync_ms: Wall clock at which this replica last had all that its master had.
        link_note: What an operator should know of the link; empty for nothing.
        replicas: On a master or a relay, every replica that was heard since its start.
        upstream: On a replica, the PUB address of whom it follows, a relay or the master.
        path: On a replica, the names of the relays between, from the master on.
        master: On a replica, what its master told of itself.
        used_bytes: The store's used pages when the owner last measured them; 0 without a limit.
        limit_bytes: What kv_store.max_memory_mb allows them; 0 without a limit.
        rank: What the node's data is worth beside another's, the larger one being ahead: the newest
            reign held that was asked for, the newest one held, the offset.
        clock_held_seconds: On a master, how far its machine's clock is ahead by a jump that
            deadlines do not follow yet; 0 for none.
        clock_skew_seconds: On a replica, how far the master's clock is ahead of this machine's.
        store_health: What is known of the live store's records.
        request_records: On a master, how many requests are remembered that may be sent again.
        request_bytes: What these records take up.
        sealed_epoch: Nothing of a reign below this one is acknowledged; 0 for none.
        sealed_for: The candidate that this epoch was promised to.
        voters: On a replica, where its master's replicas would be as masters, this one too.
        awaited: On a master that may have lost the end of its log, the replicas that it waits for.
    """

    wal_bytes: int = 0
    wal_segments: int = 0
    wal_first_offset: int = 1
    last_fsync_ms: int = 0
    master_address: str = ""
    last_sync_ms: int = 0
    link_note: str = ""
    replicas: tuple[ReplicaFacts, ...] = ()
    snapshots: SnapshotFacts = SnapshotFacts()
    used_bytes: int = 0
    limit_bytes: int = 0
    wal_damage: str = ""
    awaited: tuple[AwaitedFacts, ...] = ()
    clock_held_seconds: float = 0.0
    clock_skew_seconds: float = 0.0
    store_health: StoreHealth = StoreHealth()
    request_records: int = 0
    request_bytes: int = 0
    rank: tuple[int, int, int] = (0, 0, 0)
    sealed_epoch: int = 0
    sealed_for: str = ""
    voters: tuple[str, ...] = ()
    upstream: str = ""
    path: tuple[str, ...] = ()
    master: MasterFacts = MasterFacts()


Content = TypeVar("Content", BoardView, NodeDetails)


class _Area(Generic[Content]):
    """One guarded area of the mapped file."""

    def __init__(self, memory: memoryview, content_type: type[Content]) -> None:
        self._memory = memory
        self._sequence = memory[:8].cast("Q")
        self._decoder: msgspec.msgpack.Decoder[Content] = msgspec.msgpack.Decoder(content_type)
        self._read_at = -1
        self._read: Content = content_type()
        self._has_tried = False

    def write(self, content: Content) -> None:
        encoded = msgspec.msgpack.encode(content)
        if len(encoded) > len(self._memory) - _CONTENT_AT:
            raise SynapError(f"{len(encoded)} bytes do not fit on the board")
        sequence = self._sequence[0] | 1
        self._sequence[0] = sequence
        _AREA.pack_into(self._memory, 8, len(encoded), crc32(encoded))
        self._memory[_CONTENT_AT : _CONTENT_AT + len(encoded)] = encoded
        self._sequence[0] = sequence + 1

    def read(self) -> Content:
        """Return the newest whole content; the one read before while a writer died halfway."""
        if self._sequence[0] == self._read_at:
            return self._read
        if not self._try() and not self._has_tried:
            # The owner may be off its core right now, and what was read before is nothing.
            until = time.monotonic() + _FIRST_WAIT_SECONDS
            while not self._try() and time.monotonic() < until:
                time.sleep(0.001)
        self._has_tried = True
        return self._read

    def _try(self) -> bool:
        """Take what is there; return whether it was whole."""
        for _ in range(_TRIES):
            sequence = self._sequence[0]
            length, crc = _AREA.unpack_from(self._memory, 8)
            encoded = bytes(self._memory[_CONTENT_AT : _CONTENT_AT + length])
            if sequence & 1 or self._sequence[0] != sequence or crc32(encoded) != crc:
                continue
            if encoded:
                self._read = self._decoder.decode(encoded)
            self._read_at = sequence
            return True
        return False

    def close(self) -> None:
        self._sequence.release()
        self._memory.release()


class Board:
    """The mapped file. Any process may open it, before or after the owner; one writes.

    Attributes:
        clock: The word of the node's clock, for `node_clock`; 0 until an owner has set it.
        view: Returns the newest view; the same object until the owner publishes another. On the
            path of every request, hence no method of its own.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DataDirUnusable: the run directory has no room for it.
        """
        self._map = map_needed_file(path, _VIEW_BYTES + _DETAILS_BYTES)
        self._memory = memoryview(self._map)
        self._view = _Area(self._memory[:_CLOCK_AT], BoardView)
        self.view = self._view.read
        self.clock = self._memory[_CLOCK_AT:_DRAINING_AT].cast("q")
        self._draining = self._memory[_DRAINING_AT:_VIEW_BYTES].cast("Q")
        self._details = _Area(self._memory[_VIEW_BYTES:], NodeDetails)

    def clear(self) -> None:
        """Show nothing, as a new board does. For the supervisor, before there is an owner."""
        self._view.write(BoardView())
        self._details.write(NodeDetails())
        self._draining[0] = 0
        self.clock[0] = 0

    def note_owner_down(self) -> None:
        """Show that nobody takes writes. For the supervisor, while there is no owner."""
        view = self.view()
        if view.role:
            self.publish(msgspec.structs.replace(view, read_only=WriterUnavailable.reason))

    def start_draining(self) -> None:
        """Show that the node is about to stop. For the supervisor alone."""
        self._draining[0] = 1

    @property
    def is_draining(self) -> bool:
        """Whether the node is about to stop: it still serves, but clients should go elsewhere."""
        return bool(self._draining[0])

    def publish(self, view: BoardView) -> None:
        """Show `view` from now on. For the log's owner alone."""
        self._view.write(view)

    def publish_details(self, details: NodeDetails) -> None:
        """Show `details` from now on. For the log's owner alone."""
        self._details.write(details)

    def details(self) -> NodeDetails:
        """Return the newest details."""
        return self._details.read()

    def close(self) -> None:
        self._view.close()
        self._details.close()
        self._draining.release()
        self.clock.release()
        self._memory.release()
        self._map.close()
