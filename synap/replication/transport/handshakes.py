"""Handshakes of ZeroMQ connections: who is let in, and what those that fail look like.

With CurveZMQ a master asks here for each peer whose key was proven (ZAP, the requests that ZeroMQ
sends on inproc); without an answer nobody gets in. A monitor tells of the handshakes that failed
before that, on either side: a peer without a key, with another server's key, or of other software.
`sockets` reads both on the loop's thread.

Source: docs/protocol.md, "Encryption"; ZeroMQ RFC 27 (ZAP 1.0); zmq_socket_monitor(3).
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Sequence

import msgspec
import zmq
from zmq.utils import z85

from synap.replication.transport.curve import Keys

logger = logging.getLogger(__name__)

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"synap"
# Routing id, empty, version, request, domain, address, identity, mechanism, key.
ZAP_PARTS = 9
# Number and value of a monitor's event, as the machine has them.
_EVENT = struct.Struct("=HI")
# A master hears of the keys that it refused by ZAP, with the peer's address.
MASTER_EVENTS = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
REPLICA_EVENTS = MASTER_EVENTS | zmq.EVENT_HANDSHAKE_FAILED_AUTH
# The keys of the configuration that turn CurveZMQ on.
_EITHER = "replication.secret or replication.curve"
# A port that is open to the world hears a lot of it; the log says so this often.
_LOG_EVERY_NS = 10_000_000_000


class FailedHandshake(msgspec.Struct, frozen=True):
    """One connection that failed.

    Attributes:
        reason: A sentence for the operator of this node.
        is_final: ZeroMQ does not try it again.
        is_other_key: The peer may have another key than the one that it was called by.
    """

    reason: str
    is_final: bool = False
    is_other_key: bool = False


class HandshakeLog:
    """Counts failed handshakes, and tells the log of one of them now and then.

    Attributes:
        total: How many there were.
    """

    def __init__(self, channel_end: str) -> None:
        """
        Args:
            channel_end: Which handshake it is, for the log.
        """
        self.total = 0
        self._channel_end = channel_end
        self._told_ns = -_LOG_EVERY_NS

    def note(self, failed: FailedHandshake) -> None:
        """Count it."""
        self.total += 1
        now_ns = time.monotonic_ns()
        if now_ns - self._told_ns >= _LOG_EVERY_NS:
            self._told_ns = now_ns
            logger.warning(
                "a handshake %s failed: %s", self._channel_end, failed.reason,
                extra={"action": "handshake_failed", "handshakes_failed": self.total},
            )  # fmt: skip


def answer_zap(
    parts: Sequence[bytes], allowed: frozenset[bytes]
) -> tuple[list[bytes], FailedHandshake | None]:
    """Decide on a peer that has proven its key.

    Args:
        parts: ZeroMQ's request for the mechanism CURVE, after its routing id.
        allowed: Keys of 32 bytes.

    Returns:
        The reply with its routing id, and the failure where the peer is refused.
    """
    routing, empty, version, request, _domain, address, _identity, _mechanism, key = parts
    if key in allowed:
        return [routing, empty, version, request, b"200", b"OK", b"", b""], None
    reply = [routing, empty, version, request, b"400", b"key not allowed", b"", b""]
    return reply, FailedHandshake(
        f"the public key {z85.encode(key).decode()} from {address.decode()} is not among "
        "replication.curve.allowed_keys"
    )


def read_event(parts: Sequence[bytes], keys: Keys | None, *, on_master: bool) -> FailedHandshake:
    """Translate a monitor's message about a handshake.

    Args:
        parts: The message.
        keys: The socket's; None where it uses no CurveZMQ.
        on_master: The socket listens.
    """
    kind, value = _EVENT.unpack(parts[0])
    if on_master:
        return FailedHandshake(_seen_by_master(kind, value, keys))
    if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        assert keys is not None, "only a master that uses CurveZMQ refuses a key"
        return FailedHandshake(
            f"the master does not allow this node's public key {keys.public.decode()}; "
            "add it to replication.curve.allowed_keys there",
            is_final=True,
        )
    if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return FailedHandshake(_protocol_seen_by_replica(value, keys), is_final=True)
    if keys is None:
        return FailedHandshake(
            "the master closed the connection during the handshake, as one does that uses "
            f"CurveZMQ ({_EITHER}) while this node does not"
        )
    if keys.is_shared:
        return FailedHandshake(
            "the master closed the connection during the handshake, as one does that has another "
            "replication.secret than this node"
        )
    return FailedHandshake(
        "the master closed the connection during the handshake, as one does whose key is not "
        "among replication.curve.server_key here",
        is_other_key=True,
    )


def _seen_by_master(kind: int, value: int, keys: Keys | None) -> str:
    if kind == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return "the peer closed the connection before its end, or was silent"
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        if keys is None:
            return f"the peer uses CurveZMQ ({_EITHER}), this node does not"
        return f"the peer uses no CurveZMQ, this node does ({keys.setting})"
    if value == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
        if keys is not None and keys.is_shared:
            return "the peer has another replication.secret than this node"
        return "the peer expects another key than this node's (replication.curve.server_key there)"
    return "the peer does not speak ZeroMQ's protocol"


def _protocol_seen_by_replica(value: int, keys: Keys | None) -> str:
    if value != zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        return "what listens there does not speak ZeroMQ's protocol"
    if keys is None:
        return f"the master uses CurveZMQ, this node does not; set {_EITHER} here as there"
    return f"the master uses no CurveZMQ, this node does; set {keys.setting} there as here"
