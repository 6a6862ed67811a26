"""What a master knows of its replicas, from their hellos and acks.

Plain values: `master` hands in what arrives and the monotonic time. A replica is known by its
connection while that is alive and by its own name beyond that, so that one that reconnects replaces
itself, and one that went away is still shown, as `disconnected`.
A list that is full has room for another name where `crowd` finds one that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from synap.addresses import client_group
from synap.position import Lineage
from synap.replication.rules import quorum
from synap.replication.rules.crowd import Seat, who_makes_room
from synap.replication.rules.lag import OffsetClock, lag_entries
from synap.replication.rules.messages import Ack, Hello
from synap.replication.rules.plan import Diverged, FullResync, Plan
from synap.replication.rules.progress import NS_PER_MS, LinkState

# Replicas shown, those that went away among them.
MAX_REPLICAS = 256

_STATES = frozenset(LinkState)
_UNHEARD = "this node has not heard it since its own start"
# States in which what a replica holds is a beginning of its master's log.
_HOLDING_STATES = frozenset((LinkState.CATCHING_UP, LinkState.IN_SYNC, LinkState.LAGGING))


class ReplicaProgress(msgspec.Struct, frozen=True):
    """One replica.

    Attributes:
        id: Its `server.node_id`.
        address: Where its connection comes from.
        url: Where clients reach it; may be empty.
        offset: Last offset in its WAL that it told.
        lag_entries: How many entries of the master's log are after that.
        lag_ms: Age of the oldest of them, by this master's clock.
        status: In the words of the HTTP contract.
        last_ack_ms: Wall clock at which it was last heard.
        note: What the operator should know of it; empty for nothing.
        epoch: Of the entry at its offset, that it told; 0 for none.
        version: Of its program, that it told; empty for none.
        snapshot_ms: Its wall clock when its newest snapshot was taken; 0 for none, or untold.
    """

    id: str
    address: str
    url: str
    offset: int
    lag_entries: int
    lag_ms: int
    status: LinkState
    last_ack_ms: int
    note: str = ""
    epoch: int = 0
    version: str = ""
    snapshot_ms: int = 0


@dataclass(slots=True)
class _Replica:
    peer: bytes
    address: str
    url: str
    offset: int
    epoch: int
    state: LinkState
    heard_ns: int
    heard_wall_ms: int
    is_connected: bool = True
    mends: bool = False
    votes: bool = True
    version: str = ""
    snapshot_ms: int = 0
    # The connection that this one replaced while it was alive, and where that came from. A replica
    # that reconnects never uses the old one again; another replica of the same name does.
    replaced: bytes = b""
    replaced_address: str = ""
    twin_address: str = ""
    twin_ns: int = 0
    is_unheard: bool = False


class Roster:
    """Every replica that was heard since the master started, or that it knew before."""

    def __init__(self, *, timeout_ns: int, max_lag_ms: int) -> None:
        """
        Args:
            timeout_ns: Silence after which a replica counts as disconnected.
            max_lag_ms: Lag from which it counts as lagging.
        """
        self._timeout_ns = timeout_ns
        self._max_lag_ms = max_lag_ms
        self._by_id: dict[str, _Replica] = {}
        self._ids: dict[bytes, str] = {}

    def __len__(self) -> int:
        """Return the number of connections that have said hello and are alive."""
        return len(self._ids)

    def knows(self, peer: bytes) -> bool:
        """Say whether this connection has said hello and is alive."""
        return peer in self._ids

    def expect(self, addresses: Mapping[str, str], now_ns: int, wall_ms: int) -> None:
        """Show the replicas of the time before the start, until they are heard or forgotten.

        Args:
            addresses: Where each would be as a master, by name.
            now_ns: Monotonic clock; from now on they are silent.
            wall_ms: The wall clock then.
        """
        for name, address in addresses.items():
            self._by_id[name] = _Replica(
                b"", address, "", 0, 0, LinkState.DISCONNECTED, now_ns, wall_ms,
                is_connected=False, is_unheard=True,
            )  # fmt: skip

    def seats(self) -> dict[str, Seat]:
        """Return who is behind each name that was heard since the start."""
        heard = {name: each for name, each in self._by_id.items() if not each.is_unheard}
        return {name: _seat_of(replica) for name, replica in heard.items()}

    def admits(self, name: str, address: str, now_ns: int) -> bool:
        """Make room for a name that says hello; return False where there is none for it."""
        if name in self._by_id or len(self._by_id) < MAX_REPLICAS:
            return True
        leaving = who_makes_room(self.seats(), client_group(address), now_ns)
        if leaving is None:
            return False
        self._ids.pop(self._by_id.pop(leaving).peer, None)
        return True

    def greet(
        self, peer: bytes, address: str, hello: Hello, answer: Plan, now_ns: int, wall_ms: int
    ) -> bytes | None:
        """Enter the replica behind a connection that said hello, where `admits` says so.

        Returns:
            The connection that it replaces, if any.
        """
        before = self._by_id.pop(hello.replica, None)
        gone = None
        if before is not None and before.is_connected and before.peer != peer:
            gone = before.peer
            del self._ids[gone]
        self._forget_name_of(peer)
        replica = _Replica(
            peer, address, hello.url, hello.position.offset, hello.position.epoch,
            _state_of(answer), now_ns, wall_ms, mends=hello.mends, votes=hello.votes,
            version=hello.version,
        )  # fmt: skip
        if before is not None:
            _look_for_twin(replica, before, is_replaced=gone is not None)
            # Until its first ack, which is the next that comes.
            replica.snapshot_ms = before.snapshot_ms
        self._by_id[hello.replica] = replica
        self._ids[peer] = hello.replica
        return gone

    def menders(self) -> list[bytes]:
        """Return the connections of replicas that give their master records, the furthest first."""
        found = [
            replica
            for replica in self._by_id.values()
            if replica.is_connected and replica.mends and replica.state in _HOLDING_STATES
        ]
        return [each.peer for each in sorted(found, key=lambda each: -each.offset)]

    def acknowledge(self, peer: bytes, ack: Ack, now_ns: int, wall_ms: int) -> bool:
        """Take an ack; return False for a connection that never said hello or was forgotten."""
        name = self._ids.get(peer)
        if name is None:
            return False
        replica = self._by_id[name]
        replica.offset = ack.offset
        replica.epoch = ack.epoch
        replica.snapshot_ms = ack.snapshot_ms
        replica.heard_ns = now_ns
        replica.heard_wall_ms = wall_ms
        if ack.state in _STATES:
            replica.state = LinkState(ack.state)
        return True

    def expire(self, now_ns: int) -> list[tuple[bytes, str]]:
        """Forget the connections that are silent for too long; return them with their names."""
        silent = [
            (replica.peer, name)
            for name, replica in self._by_id.items()
            if replica.is_connected and now_ns - replica.heard_ns > self._timeout_ns
        ]
        for peer, name in silent:
            self._by_id[name].is_connected = False
            del self._ids[peer]
        return silent

    def forget(self, name: str) -> bool:
        """Forget a replica that is not connected; return False where it is.

        One that was never heard is forgotten already.
        """
        replica = self._by_id.get(name)
        if replica is None:
            return True
        if replica.is_connected:
            return False
        del self._by_id[name]
        return True

    def __contains__(self, name: str) -> bool:
        """Say whether a replica of that name is shown."""
        return name in self._by_id

    def twin_note(self, name: str, now_ns: int) -> str:
        """Say that two replicas use this name, where both were heard lately; else return ""."""
        replica = self._by_id.get(name)
        if replica is None or not replica.twin_ns:
            return ""
        if now_ns - replica.twin_ns > self._timeout_ns:
            return ""
        return (
            f"another replica, at {replica.twin_address}, has the same server.node_id and takes "
            "its place again and again; give each a name of its own"
        )

    def held_offset(
        self, replicas: int, lineage: Lineage, is_known: Callable[[str], bool] = bool
    ) -> int:
        """Return the last offset that `replicas` replicas have acknowledged; 0 for none.

        Args:
            replicas: From 1.
            lineage: The master's reigns; an ack counts that lies in the present one.
            is_known: Whether a restart of the master asks the replica of that name: only then its
                ack counts.
        """
        return quorum.held_offset(self._counting_offsets(lineage, is_known), replicas)

    def held_offsets(
        self, most: int, lineage: Lineage, is_known: Callable[[str], bool] = bool
    ) -> tuple[int, ...]:
        """Return `held_offset` of one replica, of two, and so on up to `most`."""
        return quorum.held_offsets(self._counting_offsets(lineage, is_known), most)

    def welcome_peers(self) -> list[bytes]:
        """Return the connections of the replicas that were welcomed."""
        return [replica.peer for replica in self._by_id.values() if self._is_holding(replica)]

    def holders(self) -> int:
        """Return how many replicas are connected whose acks may count for a quorum."""
        return sum(self._is_holding(replica) and replica.votes for replica in self._by_id.values())

    def progress(
        self, last_offset: int, clock: OffsetClock, now_ns: int
    ) -> tuple[ReplicaProgress, ...]:
        """Return every replica by name.

        Args:
            last_offset: The end of the master's log.
            clock: When each offset was written.
            now_ns: Monotonic clock.
        """
        return tuple(
            self._progress_of(name, replica, last_offset, clock, now_ns)
            for name, replica in sorted(self._by_id.items())
        )

    def _counting_offsets(self, lineage: Lineage, is_known: Callable[[str], bool]) -> Iterator[int]:
        for name, replica in self._by_id.items():
            if (
                self._is_holding(replica)
                and replica.votes
                and is_known(name)
                and quorum.counts(replica.offset, replica.epoch, lineage)
            ):
                yield replica.offset

    @staticmethod
    def _is_holding(replica: _Replica) -> bool:
        return replica.is_connected and replica.state in _HOLDING_STATES

    def _progress_of(
        self, name: str, replica: _Replica, last_offset: int, clock: OffsetClock, now_ns: int
    ) -> ReplicaProgress:
        since_ns = clock.since_ns(replica.offset)
        lag = (now_ns - since_ns) // NS_PER_MS if since_ns else 0
        status = replica.state
        if not replica.is_connected:
            status = LinkState.DISCONNECTED
        elif status is LinkState.IN_SYNC and lag > self._max_lag_ms:
            status = LinkState.LAGGING
        return ReplicaProgress(
            id=name,
            address=replica.address,
            url=replica.url,
            offset=replica.offset,
            lag_entries=lag_entries(last_offset, replica.offset),
            lag_ms=lag,
            status=status,
            last_ack_ms=replica.heard_wall_ms,
            note=_UNHEARD if replica.is_unheard else self.twin_note(name, now_ns),
            epoch=replica.epoch,
            version=replica.version,
            snapshot_ms=replica.snapshot_ms,
        )

    def _forget_name_of(self, peer: bytes) -> None:
        name = self._ids.pop(peer, None)
        if name is not None:
            self._by_id.pop(name, None)


def _seat_of(replica: _Replica) -> Seat:
    return Seat(client_group(replica.address), replica.is_connected, replica.heard_ns)


def _look_for_twin(replica: _Replica, before: _Replica, *, is_replaced: bool) -> None:
    """Note on `replica` whether the one of its name before it is another one."""
    if replica.peer == before.peer:
        replica.replaced, replica.replaced_address = before.replaced, before.replaced_address
    elif is_replaced:
        replica.replaced, replica.replaced_address = before.peer, before.address
    replica.twin_address, replica.twin_ns = before.twin_address, before.twin_ns
    if is_replaced and replica.peer == before.replaced:
        replica.twin_address, replica.twin_ns = before.address, replica.heard_ns


def _state_of(answer: Plan) -> LinkState:
    if isinstance(answer, Diverged):
        return LinkState.DIVERGED
    return LinkState.SYNCING if isinstance(answer, FullResync) else LinkState.CATCHING_UP
