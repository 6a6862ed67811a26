"""Members who take what there is little of, and the replica that wants some of it too.

They know all that a member knows, and come from another address of this machine than the replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from synap.frame import VERSION
from synap.node.aside import Quarantine
from synap.position import START
from synap.replication.publishing import snapshot_service
from synap.replication.publishing.known_replicas import KnownReplicas, load_replicas
from synap.replication.rules.messages import Ack, Credit, FetchSnapshot, Hello, encode
from tests.integration.linked_nodes import Stranger, eventually, on_loop, until_level
from tests.integration.replication.test_resync import Bench, Master
from tests.support import HOST

ELSEWHERE = "127.0.0.2"
# Several times what the master queues for one peer.
IMAGE_MIB = 12
TIMEOUT_SECONDS = 1
BIDS_A_SECOND = 50


@pytest.fixture
def bench(tmp_path: Path, run_dir: Path) -> Bench:
    return Bench(tmp_path)


class Member(Stranger):
    """One that has said hello and asks for the snapshot again and again."""

    def __init__(self, master: Master, number: int, *, is_greedy: bool) -> None:
        super().__init__(master.addresses[1], origin=ELSEWHERE, is_greedy=is_greedy)
        self.request = self.turn = 0
        self.name = f"member-{number}"

    def ask(self) -> None:
        self.request += 1
        self.say(FetchSnapshot(self.request, b"", 0, 16))

    def give_credit(self) -> None:
        self.say(Credit(self.request, 16))

    def read(self, most: int) -> int:
        count = 0
        while count < most and self.socket.poll(0):
            self.socket.recv_multipart()
            count += 1
        return count


def credit_and_take_nothing(member: Member) -> None:
    member.give_credit()


def take_little(member: Member) -> None:
    """Enough not to be cut off, and less than a replica takes."""
    member.give_credit()
    member.turn += 1
    if member.turn % BIDS_A_SECOND == 0:
        member.read(1)


def ask_anew_at_once(member: Member) -> None:
    member.read(100)
    member.ask()


Attack = Callable[[Member], None]
ATTACKS: tuple[Attack, ...] = (credit_and_take_nothing, take_little, ask_anew_at_once)


@pytest.fixture
def members() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _have_both_places(members: list[Member], master: Master) -> bool:
    if len(master.publisher.snapshots) < 2:
        for member in members:
            member.ask()
    return len(master.publisher.snapshots) == 2


async def _go_on(members: list[Member], attack: Attack, done: asyncio.Event) -> None:
    while not done.is_set():
        for member in members:
            member.say(Ack(0, 0, "syncing"))
            attack(member)
        await asyncio.sleep(1 / BIDS_A_SECOND)


@on_loop
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_replica_gets_its_snapshot_while_members_want_every_place(
    bench: Bench, members: ExitStack, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    """Cites R14."""
    monkeypatch.setattr(snapshot_service, "CHUNK_BYTES", 64 * 1024)
    async with bench:
        master = await bench.shrunk_master(
            IMAGE_MIB, replication__replica_timeout_secs=TIMEOUT_SECONDS
        )
        is_greedy = attack is ask_anew_at_once
        crowd = [Member(master, number, is_greedy=is_greedy) for number in range(4)]
        for member in crowd:
            members.enter_context(member)
            member.say(Hello(member.name, START, format=VERSION))
        done = asyncio.Event()
        await eventually(lambda: _have_both_places(crowd, master))
        attackers = asyncio.create_task(_go_on(crowd, attack, done))
        try:
            replica = await bench.replica(master)
            await until_level(master, replica)
        finally:
            done.set()
            await attackers


async def _hellos(master: Master, count: int, members: ExitStack) -> None:
    for number in range(count):
        member = members.enter_context(Stranger(master.addresses[1], origin=ELSEWHERE))
        for name in range(4):
            made_up = f"member-{number}-{name}"
            hello = Hello(made_up, START, sync_address=f"{made_up}:7002", format=VERSION)
            member.socket.send_multipart(encode(hello))
            await member.answer()


@on_loop
async def test_names_that_a_member_makes_up_push_no_replica_out(
    bench: Bench, members: ExitStack, tmp_path: Path
) -> None:
    """Cites K10: neither from the roster nor from the file of those that are asked at a start."""
    async with bench:
        master = await bench.master()
        known = KnownReplicas(tmp_path / "replicas.json", Quarantine(tmp_path / "foreign"))
        master.hooks = replace(
            master.hooks,
            on_replica=known.note, addresses=known.addresses, is_known=known.is_written,
        )  # fmt: skip
        await master.restart()
        replica = await bench.replica(master, replication__sync_listen_address="0.0.0.0:7002")
        master.set_many(5)
        await until_level(master, replica)
        await eventually(lambda: known.is_written("replica"))
        await _hellos(master, 40, members)
        offset = master.data_dir.position.offset
        await eventually(lambda: master.publisher.held_offset(1) == offset)
        await known.stop()
        assert known.is_written("replica")
        assert len(load_replicas(tmp_path / "replicas.json")) == 64
        assert master.replica("replica") is not None
        await eventually(lambda: len(replica.peers) == 64)
        assert f"{HOST}:7002" in replica.peers
