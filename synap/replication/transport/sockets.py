"""ZeroMQ on an asyncio loop: the only module that has sockets of it.

An `Endpoint` is one socket, read and written on the loop's thread alone and never blocking: what a
full queue does not take is dropped, which offsets and deadlines above make good. `Sockets` makes
endpoints and ends them with their context. Make it after the fork.

ZeroMQ's descriptor tells of changes, not of states: it may stay quiet with messages waiting once
another call has looked. So every wake-up reads until nothing is left, or asks to be called again,
and so does whoever has sent something.

With keys both channels are encrypted (CurveZMQ). Every socket has a monitor, so that a connection
that does not come to be is seen, encrypted or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import zmq

from synap.errors import ReplicationError, StartError
from synap.replication.rules.messages import MAX_BULK_BYTES, MAX_HEAD_BYTES
from synap.replication.transport import handshakes
from synap.replication.transport.curve import Keys
from synap.replication.transport.handshakes import FailedHandshake

# What a protocol message has at most, and the two that ROUTER puts before and XPUB behind it. The
# rest of a longer message is thrown away as it comes.
_MAX_PARTS = 4
# What CurveZMQ adds to a part: its command's name, the nonce, the box's tag, the flags.
_CURVE_BYTES = 64
# Messages of one wake-up. The loop's other work comes between two of them.
_WAKE_UP_MESSAGES = 256
# Messages queued for one peer. In the stream each is at most replication.buffer_size_kb, so this
# bounds what a stalled replica costs its master; catch-up is bounded by credit besides.
_STREAM_QUEUE = 1024
_SYNC_QUEUE = 64
# ZeroMQ's own reconnects: quick enough for a master that is restarted, slow enough to be no load.
_RECONNECT_MS = 100
_MAX_RECONNECT_MS = 1000

Receive = Callable[[list[bytes], str], None]
Fail = Callable[[FailedHandshake], None]
Settle = Callable[[], None]


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
            max_parts: Parts behind these are thrown away.
        """
        self.dropped = 0
        self._max_parts = max_parts
        self._socket = socket
        self._receive = receive
        self._settle = settle
        # A master has many peers and wants to name them; asking costs as much as the reading.
        self._tells_address = socket.type in (zmq.ROUTER, zmq.XPUB)
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
        if self._socket.closed or not int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE:
            # Mostly so behind a message that was sent, and cheaper to ask than to fail.
            return
        count = 0
        while count < _WAKE_UP_MESSAGES and not self._socket.closed:
            try:
                parts, address = self._read()
            except zmq.Again:
                break
            count += 1
            self._receive(parts, address)
        if count == _WAKE_UP_MESSAGES:
            self._drain_soon()
        if count and self._settle is not None:
            self._settle()

    def close(self) -> None:
        """Close at once; what is queued is lost."""
        if not self._socket.closed:
            self._loop.remove_reader(self._file)
            self._socket.close(linger=0)

    def _drain_soon(self) -> None:
        if not self._is_drain_due:
            self._is_drain_due = True
            self._loop.call_soon(self.drain)

    def _read(self) -> tuple[list[bytes], str]:
        part = self._socket.recv(zmq.NOBLOCK, copy=False)
        parts = [part.bytes]
        while part.more:
            part = self._socket.recv(zmq.NOBLOCK, copy=False)
            if len(parts) < self._max_parts:
                parts.append(part.bytes)
        return parts, _peer_address(part) if self._tells_address else ""


class Sockets:
    """A ZeroMQ context and its endpoints."""

    def __init__(
        self, buffer_bytes: int, keys: Keys | None = None, on_failed: Fail | None = None
    ) -> None:
        """
        Args:
            buffer_bytes: Size of the kernel's buffers of each connection.
            keys: What both channels are encrypted with; None for plain ones.
            on_failed: Told of each handshake that failed; None where nobody cares.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._buffer_bytes = buffer_bytes
        self._keys = keys
        self._on_failed = on_failed
        self._endpoints: list[Endpoint] = []
        self._gate: Endpoint | None = None

    def bind_stream(
        self, address: str, heartbeat_ms: int, timeout_ms: int, receive: Receive
    ) -> Endpoint:
        """Bind the stream's sending end.

        XPUB is PUB that also tells of subscriptions, which arrive as messages.

        Raises:
            StartError: The address can't be bound.
        """
        socket = self._socket(zmq.XPUB, _STREAM_QUEUE, MAX_HEAD_BYTES)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        _keep_alive(socket, heartbeat_ms, timeout_ms)
        return self._bound(socket, address, receive, None)

    def bind_sync(
        self, address: str, heartbeat_ms: int, timeout_ms: int, receive: Receive
    ) -> Endpoint:
        """Bind the sync channel's master end; a message's first part names the connection.

        Raises:
            StartError: The address can't be bound.
        """
        socket = self._socket(zmq.ROUTER, _SYNC_QUEUE, MAX_HEAD_BYTES)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        _keep_alive(socket, heartbeat_ms, timeout_ms)
        return self._bound(socket, address, receive, None)

    def connect_stream(
        self, address: str, receive: Receive, settle: Settle | None, server_key: bytes = b""
    ) -> Endpoint:
        """Connect the stream's receiving end.

        Args:
            server_key: With keys, the public key that the master must have.

        Raises:
            ReplicationError: The address can't be used.
        """
        socket = self._socket(zmq.SUB, _STREAM_QUEUE, MAX_BULK_BYTES)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        return self._connected(socket, address, receive, settle, server_key)

    def connect_sync(
        self, address: str, receive: Receive, settle: Settle | None, server_key: bytes = b""
    ) -> Endpoint:
        """Connect the sync channel's replica end; for the arguments see `connect_stream`.

        Raises:
            ReplicationError: The address can't be used.
        """
        socket = self._socket(zmq.DEALER, _SYNC_QUEUE, MAX_BULK_BYTES)
        return self._connected(socket, address, receive, settle, server_key)

    def close(self) -> None:
        """Close every endpoint and the context; waits for nobody."""
        for endpoint in self._endpoints:
            endpoint.close()
        self._context.destroy(linger=0)

    def _socket(self, kind: int, queue: int, max_part_bytes: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 0)
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
        receive: Receive,
        settle: Settle | None,
    ) -> Endpoint:
        if self._keys is not None:
            self._guard(socket, self._keys)
        self._watch(socket, on_master=True)
        try:
            socket.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise StartError(
                f"can't listen on {address} for replicas: {error.strerror}; "
                "stop what uses it or choose another address"
            ) from error
        return self._enter(socket, receive, settle)

    def _connected(
        self,
        socket: zmq.Socket[bytes],
        address: str,
        receive: Receive,
        settle: Settle | None,
        server_key: bytes,
    ) -> Endpoint:
        if self._keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)
        self._watch(socket, on_master=False)
        try:
            socket.connect(f"tcp://{address}")
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise ReplicationError(f"can't connect to {address}: {error.strerror}") from error
        return self._enter(socket, receive, settle)

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

    def _watch(self, socket: zmq.Socket[bytes], *, on_master: bool) -> None:
        """Have the failed handshakes of a socket, not bound or connected yet, told."""
        address = f"inproc://monitor-{int(socket.getsockopt(zmq.FD))}"
        socket.monitor(
            address, handshakes.MASTER_EVENTS if on_master else handshakes.REPLICA_EVENTS
        )
        monitor = self._context.socket(zmq.PAIR)
        # ZeroMQ's own thread writes there, and would wait where the queue is full.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(address)

        def read(parts: list[bytes], _: str) -> None:
            if self._on_failed is not None:
                self._on_failed(handshakes.read_event(parts, self._keys, on_master=on_master))

        self._enter(monitor, read, None)

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


def _keep_alive(socket: zmq.Socket[bytes], heartbeat_ms: int, timeout_ms: int) -> None:
    # ZeroMQ's pings close connections whose other end is gone, so that their queues are freed.
    socket.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, timeout_ms)


def _peer_address(part: zmq.Frame) -> str:
    try:
        return str(part.get("Peer-Address"))
    except zmq.ZMQError:
        return ""
