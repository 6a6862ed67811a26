"""Members who mean harm: what they make a master's memory hold, and who is served beside them.

They know the cluster's secret, so that nothing but bounds is between them and the log's owner.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq

from synap.position import START, Position, Reign
from synap.replication.rules.messages import Ack, Credit, Fetch, FetchSnapshot, Hello, encode
from synap.replication.transport.curve import keys_of_secret
from tests.support import HOST, Node, eventually
from tests.system.test_roles import HEARTBEAT, facts, get

SECRET = "0123456789abcdef" * 4
KEYS = keys_of_secret(SECRET)
MEMBERS = 64
LARGEST_GROWTH_BYTES = 64 * 1024 * 1024
ATTACK_SECONDS = 4.0
# So much is in the log that a replica which asks for all of it, and takes none, could be queued.
VALUES = 60
VALUE = "v" * 1024 * 1024


def held_bytes(pid: int) -> int:
    """Return what a process holds; pages of files are the kernel's to take back."""
    kilobytes = {"Pss": 0, "Pss_File": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in kilobytes:
            kilobytes[name] = int(value.split()[0])
    return (kilobytes["Pss"] - kilobytes["Pss_File"]) * 1024


class Member:
    """One of them, at one of the master's ports."""

    def __init__(self, context: zmq.Context, kind: int, port: int, number: int) -> None:
        self.number = number
        self.sent = 0
        self.socket = context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        # It reads nothing, and so do the kernel's buffers.
        self.socket.setsockopt(zmq.RCVHWM, 1)
        self.socket.setsockopt(zmq.RCVBUF, 4096)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, KEYS.servers[0])
        self.socket.setsockopt(zmq.CURVE_PUBLICKEY, KEYS.public)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, KEYS.secret)
        self.socket.connect(f"tcp://{HOST}:{port}")

    def send(self, parts: list[bytes]) -> None:
        """Send a message, where it is taken."""
        with suppress(zmq.Again):
            self.socket.send_multipart(parts, zmq.NOBLOCK)
            self.sent += 1


def subscribe_to_everything_one_by_one(member: Member) -> None:
    member.send([b"\x01" + b"%08d" % member.sent + b"t" * 40_000])


def send_what_is_none(member: Member) -> None:
    member.send([b"SYNR\x01" + b"\xc1" * 60_000])


def say_the_longest_hellos(member: Member) -> None:
    lineage = tuple(Reign(epoch, b"h" * 16, 1) for epoch in range(1, 1001))
    name = f"{member.number}-{member.sent % 1000}-".ljust(128, "n")
    url = "http://" + "u" * 255
    member.send(encode(Hello(name, Position(1, 1, 1), lineage, url, sync_address="a" * 200 + ":1")))


def fetch_and_take_nothing(member: Member) -> None:
    if not member.sent:
        member.send(encode(Hello(f"fetcher-{member.number}", START)))
    member.send(encode(Fetch(member.sent // 100, 0, 2**40, 16)))
    member.send(encode(Credit(member.sent // 100, 16)))


def fetch_snapshots_and_take_nothing(member: Member) -> None:
    if not member.sent:
        member.send(encode(Hello(f"fetcher-{member.number}", START)))
    member.send(encode(FetchSnapshot(member.sent // 100, b"", 0, 16)))
    member.send(encode(Credit(member.sent // 100, 16)))


def acknowledge_all_the_time(member: Member) -> None:
    if not member.sent:
        member.send(encode(Hello(f"acker-{member.number}", START)))
    member.send(encode(Ack(0, 0, "in_sync")))


def hear_nothing_of_the_stream(member: Member) -> None:
    if not member.sent:
        member.send([b"\x01"])


SYNC, STREAM = zmq.DEALER, zmq.XSUB
ATTACKS: dict[Callable[[Member], None], int] = {
    send_what_is_none: SYNC,
    say_the_longest_hellos: SYNC,
    fetch_and_take_nothing: SYNC,
    fetch_snapshots_and_take_nothing: SYNC,
    acknowledge_all_the_time: SYNC,
    subscribe_to_everything_one_by_one: STREAM,
    hear_nothing_of_the_stream: STREAM,
}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings = {"replication.role": "master", "replication.secret": SECRET, **HEARTBEAT}
    with Node(tmp_path_factory.mktemp("master"), "master", settings) as node:
        for number in range(VALUES):
            write(node, f"large-{number}", VALUE)
        yield node


def write(node: Node, key: str, value: str) -> None:
    assert node.request("POST", "/kv/set", {"key": key, "value": value}).status == 200


def attack(master: Node, kind: int, one: Callable[[Member], None]) -> int:
    """Have all members do it for a while, beside some writes; return the most that was held."""
    port = master.sync_port if kind == SYNC else master.pub_port
    pid, most = master.owner_pid(), 0
    deadline = time.monotonic() + ATTACK_SECONDS
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        members = [Member(context, kind, port, number) for number in range(MEMBERS)]
        for member in members:
            stack.callback(member.socket.close)
        while time.monotonic() < deadline:
            for member in members:
                one(member)
            if kind == STREAM:
                write(master, "small", VALUE[:200_000])
            most = max(most, held_bytes(pid))
    return most


@pytest.mark.timeout(120)
@pytest.mark.parametrize("one", ATTACKS, ids=lambda one: one.__name__)
def test_hostile_members_make_the_master_hold_little(
    master: Node, one: Callable[[Member], None]
) -> None:
    """Cites K9."""
    pid = master.owner_pid()
    before = held_bytes(pid)
    most = attack(master, ATTACKS[one], one)
    assert (most - before) / 2**20 <= LARGEST_GROWTH_BYTES / 2**20
    assert master.owner_pid() == pid
    write(master, "after", "1")


class RawPeer:
    """A peer of an open master that speaks ZMTP as ZeroMQ never would."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=5)
        self.socket.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
        kind = b"\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity" + bytes(4)
        ready = b"\x05READY" + kind
        self.socket.sendall(b"\x04" + bytes((len(ready),)) + ready)
        self.socket.setblocking(False)

    def send_a_part_that_more_follow(self) -> None:
        with suppress(OSError):
            self.socket.send((b"\x03" + (60_000).to_bytes(8, "big") + b"p" * 60_000) * 20)


@pytest.mark.timeout(120)
def test_messages_without_end_make_an_open_master_hold_little(tmp_path: Path) -> None:
    """Cites K9: ZeroMQ keeps all parts until the last one is here."""
    with Node(tmp_path, "master", {"replication.role": "master", **HEARTBEAT}) as node:
        pid = node.owner_pid()
        before = most = held_bytes(pid)
        peers = [RawPeer(node.sync_port) for _ in range(MEMBERS)]
        deadline = time.monotonic() + ATTACK_SECONDS
        while time.monotonic() < deadline:
            for peer in peers:
                peer.send_a_part_that_more_follow()
            most = max(most, held_bytes(pid))
        for peer in peers:
            peer.socket.close()
        assert (most - before) / 2**20 <= LARGEST_GROWTH_BYTES / 2**20
        assert node.owner_pid() == pid
        assert "bytes that nobody read" in node.log


@pytest.mark.timeout(120)
def test_honest_replica_syncs_beside_hostile_members(master: Node, tmp_path: Path) -> None:
    """Cites K9: while all places for catch-up are asked for, by peers that take nothing."""
    settings = {
        "replication.role": "replica",
        "replication.secret": SECRET,
        "replication.master_address": f"{HOST}:{master.pub_port}",
        "replication.master_sync_address": f"{HOST}:{master.sync_port}",
        **HEARTBEAT,
    }
    with zmq.Context() as context, Node(tmp_path, "honest", settings) as replica:
        members = [Member(context, SYNC, master.sync_port, number) for number in range(MEMBERS)]

        def is_level() -> bool:
            for member in members:
                fetch_and_take_nothing(member)
            return facts(replica)["status"] == "in_sync"

        try:
            eventually(is_level, 60.0)
            assert get(replica, "large-7") == VALUE
        finally:
            for member in members:
                member.socket.close()
