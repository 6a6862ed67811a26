"""What a follower is told and what it tells: the values and the log that it works with.

Apart from `follower`, so that those who show a status or bring a log need not know its rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from synap.frame import Frame
from synap.position import Lineage, Position
from synap.replication.rules.messages import AboutMaster
from synap.replication.rules.progress import LinkState


class ReplicaLog(Protocol):
    """What a follower needs of its node's log."""

    @property
    def position(self) -> Position:
        """The end of the log."""

    @property
    def lineage(self) -> Lineage:
        """The reigns of the log."""

    @property
    def sealed_epoch(self) -> int:
        """Nothing of a reign below this one may be acknowledged; 0 for none."""

    @property
    def sealed_for(self) -> str:
        """`server.node_id` of the candidate that this epoch was promised to."""

    @property
    def has_synced(self) -> bool:
        """Whether it ever held all that its master had."""

    def note_synced(self) -> None:
        """Make `has_synced` true for good."""

    def append_frames(self, frames: Sequence[Frame]) -> None:
        """Log and apply frames as one; raises OffsetGap or StaleEpoch and changes nothing."""

    def adopt(self, lineage: Lineage) -> None:
        """Take the master's lineage."""

    def frames_behind(self, position: Position, limit_bytes: int) -> bytes:
        """Return the bytes of whole frames that follow `position`, at least one; b"" for none.

        None also where the log did not go through `position`, or no longer holds what follows.
        """


class FollowerOptions(msgspec.Struct, frozen=True):
    """How a replica follows.

    Attributes:
        replica: Its `server.node_id`.
        url: Its `server.advertise_url`; may be empty.
        heartbeat_interval_ms: Heartbeats expected; a master that says more is believed.
        max_lag_ms: Lag from which the link counts as lagging.
        rejoin_ms: Time between two hellos to a master that refuses this replica.
        can_resync: Whether somebody carries out the disk's part of a full resync.
        sync_address: Its `replication.sync_listen_address`; may be empty.
        votes: Whether its acks may count for a quorum.
        patience_ms: How long a relay that it follows may be without a master before it is left; 0
            for ever.
        version: Of its program, which its master is told.
    """

    replica: str
    url: str
    heartbeat_interval_ms: int
    max_lag_ms: int
    rejoin_ms: int
    can_resync: bool = False
    sync_address: str = ""
    votes: bool = True
    patience_ms: int = 0
    version: str = ""


class FollowerStatus(msgspec.Struct, frozen=True):
    """How the link stands; all that the node's other processes may show.

    Attributes:
        state: In the words of the HTTP contract.
        reason: Why it is so, one word of the protocol; empty for nothing special.
        note: The same as a sentence for the operator.
        position: The end of the replica's log.
        master_offset: Last offset that the master is known to have, whoever tells it.
        history: Id of the newest reign of this replica's lineage, NO_HISTORY where it has none.
        epoch: Its number, or 0.
        master_url: Where clients reach the master; empty where that is unknown.
        lag_since_ns: Since when (monotonic) something known is unapplied; 0 for nothing.
        last_contact_ns: When (monotonic) the master was last heard; 0 for never.
        fresh_ns: When (monotonic) a master that serves it was last heard; 0 where nobody knows.
        synced_ns: When (monotonic) this replica last had all that its master had; 0 for never.
        heartbeat_ns: Time between two heartbeats.
        clock_offset_ns: See `MasterClock`.
        hops: Links between this replica and its master; 0 before anything was heard.
        path: Names of the relays between, from the master on.
        has_synced: Whether its data was ever a whole state of its master.
        held: What replicas hold of this log, see `Heartbeat`; empty while that is not known, None
            where the master does not tell.
        master: The master's `server.node_id`; empty until this node was welcome somewhere.
        about: The master, as its newest heartbeat tells it.
        lease_until_ns: When (monotonic) the lease ends that it tells; None for never.
    """

    state: LinkState
    reason: str
    note: str
    position: Position
    master_offset: int
    history: bytes
    epoch: int
    master_url: str
    lag_since_ns: int
    last_contact_ns: int
    fresh_ns: int
    synced_ns: int
    heartbeat_ns: int
    has_synced: bool
    clock_offset_ns: int = 0
    held: tuple[int, ...] | None = ()
    hops: int = 0
    path: tuple[str, ...] = ()
    master: str = ""
    about: AboutMaster = AboutMaster()
    lease_until_ns: int | None = None
