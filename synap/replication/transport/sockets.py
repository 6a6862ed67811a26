"""ZeroMQ on an asyncio loop: the only module that has sockets of it.

An `Endpoint` is one socket, read and written on the loop's thread alone and never blocking: what a
full queue does not take is dropped, which offsets and deadlines above make good. `Sockets` makes
endpoints and ends them with their context. Make it after the fork.

ZeroMQ's descriptor tells of changes, not of states: it may stay quiet with messages waiting once
another call has looked. So every wake-up reads until nothing is left, or asks to be called again,
and so does whoever has sent something.

With keys both channels are encrypted (CurveZMQ). Every socket has a monitor, so that a connection
that fails is seen, encrypted or not. What peers may cost, also the master that a replica calls, is
bounded by `doorkeeper`, and by whoever asks `ListeningEndpoint.queued_bytes` before it sends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import zmq

from synap.addresses import plain_address
from synap.errors import ReplicationError, StartError
from synap.replication.rules.messages import MAX_BULK_BYTES, MAX_HEAD_BYTES
from synap.replication.transport import handshakes
from synap.replication.transport.curve import Keys
from synap.replication.transport.doorkeeper import Door, Doorkeeper
from synap.replication.transport.handshakes import FailedHandshake
from synap.replication.transport.tcp_facts import Cutter, inode_of, local_port, traffic

logger = logging.getLogger(__name__)

# What a protocol message has at most, and the two that ROUTER puts before and XPUB after it. The
# rest of a longer message is thrown away as it comes.
_MAX_PARTS = 4
# What CurveZMQ adds to a part: its command's name, the nonce, the box's tag, the flags.
_CURVE_BYTES = 64
# What each part costs on the wire at least: flags and length, and what CurveZMQ puts around it.
_PART_BYTES = 2
_CURVE_PART_BYTES = 33
# The stream's peers send a handshake and one subscription, both short, and nothing else ever.
_MAX_SUBSCRIPTION_BYTES = 1024
_SUBSCRIBER_BYTES = 2048
# What one peer of the sync channel may send before the node has read it: several of the longest
# messages that there are.
_UNREAD_BYTES = 128 * 1024
# How far a peer of the stream may be after. All of them share what is queued, so this is also what
# all of them together cost.
STREAM_BACKLOG_BYTES = 32 * 1024 * 1024
# Peers send little to a master, and what they send waits better at their end.
_LISTENING_RECEIVE_BYTES = 64 * 1024
# What a master may send ahead of a replica's reading: in the stream twice what a replica that falls
# behind is owed of ordinary frames, in the sync channel the largest frame and some chunks.
_UNREAD_STREAM_BYTES = 128 * 1024 * 1024
_UNREAD_ANSWERS_BYTES = MAX_BULK_BYTES + 32 * 1024 * 1024
# A handshake takes three round trips. Connections without one count as silent.
_HANDSHAKE_MS = 5000
# Connections whose queues are known; a peer that is back has another routing id.
_MOST_FLOWS = 1024
_COMPLAIN_EVERY_NS = 10_000_000_000
_RELIEVE_EVERY_NS = 200_000_000
# Messages of one wake-up. The loop's other work comes between two of them.
_WAKE_UP_MESSAGES = 256
# Messages queued for one peer. In the stream each is at most replication.buffer_size_kb, so this
# bounds what a stalled replica costs its master; catch-up is bounded by credit besides.
_STREAM_QUEUE = 1024
_SYNC_QUEUE = 64
# An option of ZeroMQ's context that pyzmq has no name for. Where it is on, one short message keeps
# the whole buffer that it came in, 18 KiB, for as long as it is not read.
_ZERO_COPY_RECV = 10
# ZeroMQ's own reconnects: quick enough for a master that is restarted, slow enough to be no load.
_RECONNECT_MS = 100
_MAX_RECONNECT_MS = 1000

Receive = Callable[[list[bytes], str], None]
Fail = Callable[[FailedHandshake], None]
Settle = Callable[[], None]
Cut = Callable[[str], None]


_READABLE = int(zmq.POLLIN)


class Endpoint:
    """One socket. All methods belong to the loop's thread.

    Attributes:
        dropped: Messages that could not be sent.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        receive: Receive,
        settle: Settle | None,
        max_parts: int = _MAX_PARTS,
    ) -> None:
        """
        Args:
            socket: Bound or connected; the endpoint owns it from now on.
            receive: Called with each message's parts and, on a master, the peer's address.
            settle: Called after the last message of a wake-up; None where there is nothing to do.
            max_parts: Parts after these are thrown away.
        """
        self.dropped = 0
        self._max_parts = max_parts
        self._socket = socket
        self._receive = receive
        self._settle = settle
        self._complained_ns = -_COMPLAIN_EVERY_NS
        self._is_drain_due = False
        self._loop = asyncio.get_running_loop()
        self._file = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._file, self.drain)
        self._drain_soon()

    @property
    def address(self) -> str:
        """Where it is bound, as `host:port`."""
        return self._socket.get_string(zmq.LAST_ENDPOINT).removeprefix("tcp://")

    def send(self, parts: Sequence[bytes]) -> bool:
        """Send a message; return False where the queue is full or the peer is gone."""
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:
            self.dropped += 1
            return False
        self._drain_soon()
        return True

    def drain(self) -> None:
        """Read everything at hand, up to a bound after which it calls itself again."""
        self._is_drain_due = False
        if self.read() and self._settle is not None:
            self._settle()

    def pause(self) -> None:
        """Let what comes wait, until `resume`; `read` and `drain` read it as ever."""
        self._loop.remove_reader(self._file)

    def resume(self) -> None:
        """Read again when something comes; `read` what came meanwhile."""
        if not self._socket.closed:
            self._loop.add_reader(self._file, self.drain)

    def read(self) -> int:
        """Read everything at hand as `drain` does, but settle nothing; return how much it was."""
        if self._socket.closed or not int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE:
            # Mostly so after a message that was sent, and cheaper to ask than to fail.
            return 0
        count = 0
        while count < _WAKE_UP_MESSAGES and not self._socket.closed:
            try:
                parts, last = self._read()
            except zmq.ZMQError:
                break
            count += 1
            try:
                self._hand_over(parts, last)
            except Exception:
                # Whatever one message does, those after it are other peers'.
                self._complain()
        if count < _WAKE_UP_MESSAGES:
            self._drained()
        else:
            self._drain_soon()
        return count

    def close(self) -> None:
        """Close at once; what is queued is lost."""
        if not self._socket.closed:
            self._loop.remove_reader(self._file)
            self._socket.close(linger=0)

    def _drain_soon(self) -> None:
        if not self._is_drain_due:
            self._is_drain_due = True
            self._loop.call_soon(self.drain)

    def _hand_over(self, parts: list[bytes], last: zmq.Frame) -> None:
        """Have a message received; `last` is its last part."""
        self._receive(parts, "")

    def _drained(self) -> None:
        """Nothing is left to read."""

    def _complain(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._complained_ns >= _COMPLAIN_EVERY_NS:
            self._complained_ns = now_ns
            logger.critical("a message could not be handled", exc_info=True)

    def _read(self) -> tuple[list[bytes], zmq.Frame]:
        part = self._socket.recv(zmq.NOBLOCK, copy=False)
        parts = [part.bytes]
        while part.more:
            part = self._socket.recv(zmq.NOBLOCK, copy=False)
            if len(parts) < self._max_parts:
                parts.append(part.bytes)
        return parts, part


class ListeningEndpoint(Endpoint):
    """A master's end, which has any number of peers."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        receive: Receive,
        door: Door,
        part_bytes: int,
    ) -> None:
        """
        Args:
            socket: Bound.
            receive: Called with each message's parts and the peer's address.
            door: The port.
            part_bytes: What a part costs on the wire beside its content.
        """
        self._door = door
        self._part_bytes = part_bytes
        self._names_peers = socket.type == zmq.ROUTER
        self._flows: dict[bytes, _Flow] = {}
        self._heard: set[int] = set()
        self._sender = -1
        self._relieved_ns = 0
        self._cutter = Cutter()
        super().__init__(socket, receive, None)

    def send(self, parts: Sequence[bytes]) -> bool:
        """Send a message; return False where the queue is full or the peer is gone.

        Args:
            parts: On the sync channel the first one is the peer's routing id.
        """
        is_sent = super().send(parts)
        if is_sent:
            on_wire = parts[1:] if self._names_peers else parts
            count = sum(map(len, on_wire)) + self._part_bytes * len(on_wire)
            self._door.sent_bytes += count
            flow = self._flows.get(parts[0]) if self._names_peers else None
            if flow is not None:
                flow.sent += count
        return is_sent

    def queued_bytes(self, peer: bytes) -> int:
        """Return what was sent to a peer of the sync channel and has not reached it yet."""
        flow = self._flows.get(peer)
        return flow.queued_bytes() if flow is not None else 0

    def relieve(self) -> None:
        """Cut off the peer of the sync channel that took the least since the last call.

        Does nothing where that was a moment ago: what a peer held is gone a little later.
        """
        now_ns = time.monotonic_ns()
        if now_ns - self._relieved_ns < _RELIEVE_EVERY_NS:
            return
        self._relieved_ns = now_ns
        taken = [(flow.taken_bytes(), flow) for flow in self._flows.values() if flow.queued_bytes()]
        if taken:
            slowest = min(taken, key=lambda each: each[0])[1]
            self._cutter.cut(slowest.file, slowest.inode)

    def drop_sender(self) -> None:
        """Cut the peer off whose message is being received; it may come back."""
        inode = inode_of(self._sender)
        if inode and local_port(self._sender) == self._door.port:
            self._cutter.cut(self._sender, inode)

    def close(self) -> None:
        """Close at once; what is queued is lost."""
        if not self._socket.closed:
            self._cutter.close()
        super().close()

    def _hand_over(self, parts: list[bytes], last: zmq.Frame) -> None:
        self._sender = _descriptor(last)
        self._heard.add(self._sender)
        if self._names_peers and parts[0] not in self._flows:
            self._begin_flow(parts[0])
        try:
            self._receive(parts, _peer_address(last))
        except Exception:
            self.drop_sender()
            raise

    def _drained(self) -> None:
        for file in self._heard:
            self._door.heard(file)
        self._heard.clear()

    def _begin_flow(self, peer: bytes) -> None:
        self._flows[peer] = _Flow(self._sender)
        if len(self._flows) > _MOST_FLOWS:
            self._flows = {each: flow for each, flow in self._flows.items() if flow.is_alive}


class CallingEndpoint(Endpoint):
    """A replica's end, which has one peer at a time."""

    def __init__(
        self, socket: zmq.Socket[bytes], receive: Receive, settle: Settle | None, door: Door
    ) -> None:
        """
        Args:
            socket: Connected.
            receive: As for `Endpoint`.
            settle: As for `Endpoint`.
            door: What is known of its connection.
        """
        self._door = door
        self._sender = -1
        super().__init__(socket, receive, settle)

    def _hand_over(self, parts: list[bytes], last: zmq.Frame) -> None:
        self._sender = _descriptor(last)
        self._door.read_bytes += sum(map(len, parts))
        super()._hand_over(parts, last)

    def _drained(self) -> None:
        self._door.heard(self._sender)


class _Flow:
    """What went to one peer of the sync channel."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.inode = inode_of(file)
        told = traffic(file, self.inode)
        # As far as is known it has everything until now: nothing was sent but the handshake.
        self.sent = self._acked = told.acked if told is not None else 0
        self._looked_acked = self._acked

    @property
    def is_alive(self) -> bool:
        return inode_of(self.file) == self.inode

    def queued_bytes(self) -> int:
        told = traffic(self.file, self.inode)
        if told is None:
            return 0
        self._acked = told.acked
        # What the counts differ by ends where the peer has it all.
        self.sent = max(self.sent, told.acked)
        return self.sent - told.acked

    def taken_bytes(self) -> int:
        """Return what the peer took since the last call."""
        taken = self._acked - self._looked_acked
        self._looked_acked = self._acked
        return taken


class Sockets:
    """A ZeroMQ context and its endpoints."""

    def __init__(
        self,
        buffer_bytes: int,
        keys: Keys | None = None,
        on_failed: Fail | None = None,
        on_cut: Cut | None = None,
    ) -> None:
        """
        Args:
            buffer_bytes: Size of the kernel's buffers of each connection.
            keys: What both channels are encrypted with; None for plain ones.
            on_failed: Told of each handshake that failed; None where nobody cares.
            on_cut: Told why a peer was cut off, for each; None for the same.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._buffer_bytes = buffer_bytes
        self._keys = keys
        self._on_failed = on_failed
        self._on_cut = on_cut
        self._loop = asyncio.get_running_loop()
        self._endpoints: list[Endpoint] = []
        self._gate: Endpoint | None = None
        self._doorkeeper: Doorkeeper | None = None

    def bind_stream(self, address: str, timeout_ms: int, receive: Receive) -> ListeningEndpoint:
        """Bind the stream's sending end.

        XPUB is PUB that also tells of subscriptions, which arrive as messages.

        Args:
            address: host:port.
            timeout_ms: A peer that takes nothing for so long is cut off.
            receive: See `ListeningEndpoint`.

        Raises:
            StartError: The address can't be bound.
        """
        socket = self._socket(zmq.XPUB, _STREAM_QUEUE, _MAX_SUBSCRIPTION_BYTES)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        door = partial(
            Door, unread_bytes=_SUBSCRIBER_BYTES, backlog_bytes=STREAM_BACKLOG_BYTES, forgives=False
        )
        return self._bound(socket, address, timeout_ms, receive, door)

    def bind_sync(self, address: str, timeout_ms: int, receive: Receive) -> ListeningEndpoint:
        """Bind the sync channel's master end; a message's first part names the connection.

        For the arguments see `bind_stream`.

        Raises:
            StartError: The address can't be bound.
        """
        socket = self._socket(zmq.ROUTER, _SYNC_QUEUE, MAX_HEAD_BYTES)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # The doorkeeper bounds it, in bytes. Where a queue that is full stops ZeroMQ's reading, a
        # peer that closes its connection just then ends the process (4.3.5, `!_io_error`).
        socket.setsockopt(zmq.RCVHWM, 0)
        door = partial(Door, unread_bytes=_UNREAD_BYTES, backlog_bytes=None, forgives=True)
        return self._bound(socket, address, timeout_ms, receive, door)

    def keep_doors(self) -> None:
        """Begin to bound what peers cost; when all is bound or connected."""
        if self._doorkeeper is not None:
            self._doorkeeper.start()

    def connect_stream(
        self,
        address: str,
        receive: Receive,
        settle: Settle | None,
        server_key: bytes = b"",
        *,
        is_ipv6: bool = False,
    ) -> Endpoint:
        """Connect the stream's receiving end.

        Args:
            server_key: With keys, the public key that the master must have.
            is_ipv6: Whether a name stands for addresses of IPv6.

        Raises:
            ReplicationError: The address can't be used.
        """
        socket = self._socket(zmq.SUB, _STREAM_QUEUE, MAX_BULK_BYTES)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        door = Door(0, unread_bytes=_UNREAD_STREAM_BYTES, backlog_bytes=None, forgives=True)
        _speak_ipv6(socket, address, is_ipv6=is_ipv6)
        return self._connected(socket, address, receive, settle, server_key, door)

    def connect_sync(
        self,
        address: str,
        receive: Receive,
        settle: Settle | None,
        server_key: bytes = b"",
        *,
        is_ipv6: bool = False,
    ) -> Endpoint:
        """Connect the sync channel's replica end; for the arguments see `connect_stream`.

        Raises:
            ReplicationError: The address can't be used.
        """
        socket = self._socket(zmq.DEALER, _SYNC_QUEUE, MAX_BULK_BYTES)
        door = Door(0, unread_bytes=_UNREAD_ANSWERS_BYTES, backlog_bytes=None, forgives=True)
        _speak_ipv6(socket, address, is_ipv6=is_ipv6)
        return self._connected(socket, address, receive, settle, server_key, door)

    def close(self) -> None:
        """Close every endpoint and the context; waits for nobody."""
        if self._doorkeeper is not None:
            self._doorkeeper.stop()
        for endpoint in self._endpoints:
            endpoint.close()
        self._context.destroy(linger=0)

    def _socket(self, kind: int, queue: int, max_part_bytes: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, queue)
        socket.setsockopt(zmq.RCVHWM, queue)
        # ZeroMQ drops a connection that announces a larger part, before it allocates anything.
        added_bytes = _CURVE_BYTES if self._keys is not None else 0
        socket.setsockopt(zmq.MAXMSGSIZE, max_part_bytes + added_bytes)
        socket.setsockopt(zmq.SNDBUF, self._buffer_bytes)
        socket.setsockopt(zmq.RCVBUF, self._buffer_bytes)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _MAX_RECONNECT_MS)
        return socket

    def _bound(
        self,
        socket: zmq.Socket[bytes],
        address: str,
        timeout_ms: int,
        receive: Receive,
        door_at: Callable[[int], Door],
    ) -> ListeningEndpoint:
        self._context.set(_ZERO_COPY_RECV, 0)
        _speak_ipv6(socket, address)
        if self._keys is not None:
            self._guard(socket, self._keys)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        _end_dead_connections(socket, timeout_ms)
        socket.setsockopt(zmq.RCVBUF, min(self._buffer_bytes, _LISTENING_RECEIVE_BYTES))
        monitor = self._monitor(socket, handshakes.MASTER_EVENTS | zmq.EVENT_ACCEPTED)
        try:
            socket.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            socket.close(linger=0)
            monitor.close(linger=0)
            raise StartError(
                f"can't listen on {address} for replicas: {error.strerror}; "
                "stop what uses it or choose another address"
            ) from error
        door = door_at(int(socket.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2]))
        self._watch(monitor, door, on_master=True)
        part_bytes = _PART_BYTES + (_CURVE_PART_BYTES if self._keys is not None else 0)
        endpoint = ListeningEndpoint(socket, receive, door, part_bytes)
        self._endpoints.append(endpoint)
        return endpoint

    def _was_cut(self, why: str) -> None:
        if self._on_cut is not None:
            self._loop.call_soon_threadsafe(self._on_cut, why)

    def _watch(self, monitor: zmq.Socket[bytes], door: Door, *, on_master: bool) -> None:
        def hear(parts: list[bytes]) -> None:
            failed = handshakes.read_event(parts, self._keys, on_master=on_master)
            if self._on_failed is not None:
                self._loop.call_soon_threadsafe(self._on_failed, failed)

        if self._doorkeeper is None:
            self._doorkeeper = Doorkeeper(self._was_cut)
        self._doorkeeper.add(monitor, door, hear)

    def _connected(
        self,
        socket: zmq.Socket[bytes],
        address: str,
        receive: Receive,
        settle: Settle | None,
        server_key: bytes,
        door: Door,
    ) -> Endpoint:
        if self._keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)
        monitor = self._monitor(socket, handshakes.REPLICA_EVENTS | zmq.EVENT_CONNECTED)
        try:
            socket.connect(f"tcp://{address}")
        except zmq.ZMQError as error:
            socket.close(linger=0)
            monitor.close(linger=0)
            raise ReplicationError(f"can't connect to {address}: {error.strerror}") from error
        self._watch(monitor, door, on_master=False)
        endpoint = CallingEndpoint(socket, receive, settle, door)
        self._endpoints.append(endpoint)
        return endpoint

    def _guard(self, socket: zmq.Socket[bytes], keys: Keys) -> None:
        """Have a socket, not bound yet, let in the keys that are allowed and nobody else."""
        if self._gate is None:
            gate = self._context.socket(zmq.ROUTER)
            gate.bind(handshakes.ZAP_ADDRESS)
            self._gate = self._enter(gate, self._answer_zap, None, handshakes.ZAP_PARTS)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.listening_secret)
        # Without these two, a gate that does not answer would let everybody in.
        socket.setsockopt(zmq.ZAP_DOMAIN, handshakes.ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _answer_zap(self, parts: list[bytes], _: str) -> None:
        assert self._keys is not None
        assert self._gate is not None
        reply, failed = handshakes.answer_zap(parts, self._keys.allowed)
        self._gate.send(reply)
        if failed is not None and self._on_failed is not None:
            self._on_failed(failed)

    def _monitor(self, socket: zmq.Socket[bytes], events: int) -> zmq.Socket[bytes]:
        """Return what tells of a socket's events, from before it is bound or connected."""
        address = f"inproc://monitor-{int(socket.getsockopt(zmq.FD))}"
        socket.monitor(address, events)
        monitor = self._context.socket(zmq.PAIR)
        # ZeroMQ's own thread writes there, and would wait where the queue is full.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(address)
        return monitor

    def _enter(
        self,
        socket: zmq.Socket[bytes],
        receive: Receive,
        settle: Settle | None,
        max_parts: int = _MAX_PARTS,
    ) -> Endpoint:
        endpoint = Endpoint(socket, receive, settle, max_parts)
        self._endpoints.append(endpoint)
        return endpoint


def _speak_ipv6(socket: zmq.Socket[bytes], address: str, *, is_ipv6: bool = False) -> None:
    """Have a socket use IPv6 where its address is one; with it, a name's IPv4 does not count."""
    socket.setsockopt(zmq.IPV6, int(is_ipv6 or address.startswith("[")))


def _end_dead_connections(socket: zmq.Socket[bytes], timeout_ms: int) -> None:
    """Have the kernel end a connection whose other end takes nothing for so long, or is gone.

    ZeroMQ's own pings end the whole process where one is due for a connection that was closed with
    its queue full (4.3.5, `!_io_error`), and count as something that the peer sent.
    """
    socket.setsockopt(zmq.TCP_MAXRT, timeout_ms)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, max(1, timeout_ms // 1000 // 2))
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, max(1, timeout_ms // 1000 // 6))
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)


def _descriptor(part: zmq.Frame) -> int:
    """Return the descriptor of the connection that a part came by; -1 where it is gone."""
    try:
        return int(part.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def _peer_address(part: zmq.Frame) -> str:
    try:
        address = str(part.get("Peer-Address"))
        # IPv4 reaches a socket of IPv6 too, and is one address by either.
        return plain_address(address) or address
    except zmq.ZMQError:
        return ""
