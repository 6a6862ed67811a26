"""A master who means harm, and knows the secret: what a replica holds, and whether it goes on.

It is called by a real replica, which then follows an honest master at the same address.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import zmq

from synap.position import Position, Reign
from synap.replication.rules.messages import (
    Chunk,
    Heartbeat,
    Published,
    Recall,
    Refusal,
    SnapshotChunk,
    SnapshotOffer,
    Welcome,
    encode,
)
from synap.replication.transport.curve import keys_of_secret
from tests.support import HOST, Node, eventually
from tests.system.test_hostile_members import SECRET, held_bytes
from tests.system.test_roles import HEARTBEAT, facts, get

KEYS = keys_of_secret(SECRET)
LARGEST_GROWTH_BYTES = 400 * 1024 * 1024
ATTACK_SECONDS = 4.0
MAGIC_BYTES = 5
REIGN = Reign(1, b"h" * 16, 1)
PIECE = b"p" * 1024 * 1024


class HostileMaster:
    """Both of a master's ports, and a hand that sends what it likes."""

    def __init__(self, context: zmq.Context, node: Node) -> None:
        self.stream = self._bind(context, zmq.XPUB, node.pub_port)
        self.sync = self._bind(context, zmq.ROUTER, node.sync_port)
        self.random = random.Random(7)
        self.peer = b""

    def _bind(self, context: zmq.Context, kind: int, port: int) -> zmq.Socket:
        bound = context.socket(kind)
        bound.setsockopt(zmq.LINGER, 0)
        # ZeroMQ counts parts: its bound would end a message without end at this side.
        bound.setsockopt(zmq.SNDHWM, 16 if kind == zmq.XPUB else 0)
        bound.setsockopt(zmq.CURVE_SERVER, 1)
        bound.setsockopt(zmq.CURVE_SECRETKEY, KEYS.listening_secret)
        bound.bind(f"tcp://{HOST}:{port}")
        return bound

    def listen(self) -> None:
        """Hear who is there, and beat as a master does."""
        while self.sync.poll(0):
            self.peer = self.sync.recv_multipart()[0]
        while self.stream.poll(0):
            self.stream.recv()
        self.publish(encode(Heartbeat(REIGN.history, 1, 5, 1, 100)))

    def publish(self, parts: list[bytes]) -> None:
        with suppress(zmq.ZMQError):
            self.stream.send_multipart(parts, zmq.NOBLOCK)

    def answer(self, parts: list[bytes]) -> None:
        with suppress(zmq.ZMQError):
            self.sync.send_multipart([self.peer, *parts], zmq.NOBLOCK, copy=False)

    def answer_without_end(self) -> None:
        """Send a message of 2 GiB in parts; ZeroMQ hands none out before the last one is here."""
        self.answer([PIECE] * 2048)


MESSAGES = (
    Welcome("m", Position(1, 5, 1), (REIGN,), ""),
    Refusal("diverged", "x", common_offset=3, lineage=(REIGN,), position=Position(1, 5, 1)),
    Refusal("needs_full_resync", "x", lineage=(REIGN,), position=Position(1, 5, 1)),
    Refusal("wait", "x", 1, wait_ms=1),
    Refusal("hello_wanted", "x"),
    Chunk(1, 0, is_last=False),
    Recall(1, Position(1, 1, 1), 0, 16),
    SnapshotChunk(1, 0, 0),
    SnapshotOffer(
        request=1, lineage=(REIGN,), position=Position(1, 5, 1), time_ms=1, created_ms=1, keys=1,
        size=2**62, sha256=b"s" * 32, compression="", at_byte=0, plain_bytes=2**62,
    ),
)  # fmt: skip


def say_all_in_any_order(master: HostileMaster) -> None:
    master.listen()
    for message in master.random.sample(MESSAGES, 4):
        bulk = b"b" * 100 if isinstance(message, Chunk | SnapshotChunk) else None
        master.answer(encode(message, bulk))


def send_what_is_none(master: HostileMaster) -> None:
    master.listen()
    for send in (master.publish, master.answer):
        for message in MESSAGES:
            head = bytearray(encode(message, b"b")[0])
            head[master.random.randrange(len(head))] ^= 1 << master.random.randrange(8)
            send([bytes(head), master.random.randbytes(50)][: master.random.randint(1, 2)])
        send([b"SYNR"])
        send([b""])


def send_fields_of_other_types(master: HostileMaster) -> None:
    master.listen()
    for message in MESSAGES:
        head = encode(message, b"b")[0]
        fields = msgspec.msgpack.decode(head[MAGIC_BYTES:])
        fields[master.random.randrange(len(fields))] = master.random.choice(
            (None, -1, 2**63, "\ud7ff", b"\xff", [], [[]], {}, 1.5, "x" * 60_000)
        )
        master.answer([head[:MAGIC_BYTES] + msgspec.msgpack.encode(fields), b"b"])


def stream_frames_of_another_history(master: HostileMaster) -> None:
    master.listen()
    for _ in range(20):
        master.publish(encode(Published(b"x" * 16), PIECE))


def answer_with_large_parts(master: HostileMaster) -> None:
    master.listen()
    for _ in range(8):
        master.answer(encode(Chunk(10**6, 0, is_last=False), PIECE * 16))


def answer_without_end(master: HostileMaster) -> None:
    master.listen()
    if master.peer:
        master.answer_without_end()
        # It says hello on every new link, and gets one such message.
        master.peer = b""


ATTACKS: tuple[Callable[[HostileMaster], None], ...] = (
    say_all_in_any_order,
    send_what_is_none,
    send_fields_of_other_types,
    stream_frames_of_another_history,
    answer_with_large_parts,
    answer_without_end,
)


def suffer(
    replica: Node, place: Node, one: Callable[[HostileMaster], None]
) -> tuple[int, set[str]]:
    """Have a hostile master at the address of another one; return the most held, and the notes."""
    most, notes = 0, set()
    pid = replica.owner_pid()
    with zmq.Context() as context:
        hostile = HostileMaster(context, place)
        deadline = time.monotonic() + ATTACK_SECONDS
        while time.monotonic() < deadline:
            one(hostile)
            most = max(most, held_bytes(pid))
            notes.add(facts(replica)["note"] or "")
        context.destroy(linger=0)
    return most, notes


@pytest.mark.timeout(120)
@pytest.mark.parametrize("one", ATTACKS, ids=lambda one: one.__name__)
def test_replica_outlives_a_hostile_master_and_finds_its_own(
    tmp_path: Path, one: Callable[[HostileMaster], None]
) -> None:
    """Cites K11."""
    common = {"replication.secret": SECRET, "replication.reconnect_delay_ms": 100, **HEARTBEAT}
    master = Node(tmp_path / "master", "master", {"replication.role": "master", **common})
    follows = {
        "replication.role": "replica",
        "replication.master_address": f"{HOST}:{master.pub_port}",
        "replication.master_sync_address": f"{HOST}:{master.sync_port}",
        **common,
    }
    replica = Node(tmp_path / "replica", "replica", follows)
    with master, replica:
        master.request("POST", "/kv/set", {"key": "k", "value": "first"})
        eventually(lambda: facts(replica)["status"] == "in_sync", 30.0)
        assert master.stop() == 0
        pid = replica.owner_pid()
        before = held_bytes(pid)
        most, notes = suffer(replica, master, one)
        assert (most - before) / 2**20 <= LARGEST_GROWTH_BYTES / 2**20
        assert replica.owner_pid() == pid, replica.log
        assert any(notes), notes
        assert get(replica, "k") == "first"
        master.start()
        master.request("POST", "/kv/set", {"key": "k", "value": "own"})
        eventually(lambda: facts(replica)["status"] == "in_sync", 30.0)
        eventually(lambda: get(replica, "k") == "own")
        assert replica.owner_pid() == pid, replica.log
