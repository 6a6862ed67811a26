"""What a replica knows of the nodes above it: whom it follows, and whom that one follows.

A replica may follow another one, a *relay*, in place of the master. A relay says in its heartbeats
by which relays they came (the *path*), how long ago a master was heard, and what of the master's
log it knows of and lacks. So a replica at the end tells its own age by the master, not by the relay
beside it, and one that meets its own name has found a loop.

Plain values; times are nanoseconds of a monotonic clock.

Source: docs/protocol.md, "Relays".
"""

from __future__ import annotations

import msgspec

from synap.errors import LinkLost
from synap.replication.rules.messages import MAX_HOPS, AboutMaster, Heartbeat
from synap.replication.rules.progress import NS_PER_MS


class Ancestry(msgspec.Struct, frozen=True):
    """What a relay tells those that follow it of the nodes above.

    Attributes:
        path: Names of the relays between the master and this node, which is not among them.
        master: The master's `server.node_id`.
        url: Where clients reach it; may be empty.
        peers: Addresses of the ROUTER sockets that its replicas would have as masters.
        clock_ms: Its wall clock.
        interval_ms: Time between two heartbeats that this node hears.
        age_ms: How long ago a master that serves this node was heard.
        known_offset: Last offset that the master is known to have.
        lag_ms: Age of the oldest entry that is known of and not applied here.
        held: What replicas hold of the master's log, as in `Heartbeat`.
        about: The master, as it was heard last.
    """

    path: tuple[str, ...]
    master: str
    url: str
    peers: tuple[str, ...]
    clock_ms: int
    interval_ms: int
    age_ms: int
    known_offset: int
    lag_ms: int
    held: tuple[int, ...] | None = None
    about: AboutMaster = AboutMaster()


class Way:
    """The way by which heartbeats reach a replica, as the newest one tells it.

    Attributes:
        path: Names of the relays that they come by; empty where the master itself is heard.
        hops: How many links there are to the master; 0 before anything was heard.
        heard_ns: When the master was heard by this node, or by the relay that tells of it, by this
            node's clock; 0 for never.
    """

    def __init__(self, name: str, patience_ns: int) -> None:
        """
        Args:
            name: `server.node_id` of this replica.
            patience_ns: How long a relay may be without a master before another one is looked for.
        """
        self.path: tuple[str, ...] = ()
        self.hops = 0
        self._name = name
        self._patience_ns = patience_ns
        self.heard_ns = 0

    @property
    def is_relayed(self) -> bool:
        """Whether a relay is heard and not the master."""
        return bool(self.path)

    def hear(self, beat: Heartbeat, now_ns: int) -> None:
        """Take a heartbeat.

        Raises:
            LinkLost: Its way leads through this node, or is too long to be made longer.
        """
        if self._name in beat.path:
            raise LinkLost(
                f"a loop is refused: what is heard there came by {' and '.join(beat.path)}, and "
                f"this node is {self._name}; give each node a server.node_id of its own, and "
                "replication.upstream names of nodes above it"
            )
        if len(beat.path) >= MAX_HOPS:
            raise LinkLost(f"the master is more than {MAX_HOPS} hops away; follow a nearer node")
        self.path = beat.path
        self.hops = len(beat.path) + 1
        self.heard_ns = max(1, now_ns - beat.age_ms * NS_PER_MS)

    def fresh_ns(self, now_ns: int) -> int:
        """Return when the master was last heard, given that something is heard now."""
        return self.heard_ns if self.path else now_ns

    def is_orphaned(self, now_ns: int) -> bool:
        """Say whether the relay that is heard has been without a master for too long."""
        return bool(self.path) and now_ns - self.heard_ns > self._patience_ns
