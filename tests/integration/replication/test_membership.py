"""Strangers at the replication ports: what works on an open master must not on a closed one.

Each way in is tried on both, so that a way that no longer works for another reason is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from synap.frame import VERSION
from synap.position import Position, Reign
from synap.replication.rules.messages import (
    Ack,
    Fetch,
    FetchSnapshot,
    Heartbeat,
    Hello,
    Inquiry,
    Welcome,
    encode,
)
from synap.replication.transport.curve import Keys, keys_of_secret
from synap.shared.series import FAILED_HANDSHAKES
from tests.integration.linked_nodes import Bench, Master, Stranger, eventually, on_loop, until_level
from tests.support import HOST, free_ports

SECRET = "a secret of this cluster, 32 or more"
OTHER_SECRET = "a secret of some other cluster, long"
# Long enough for many round trips on this machine.
_NOTHING_SECONDS = 0.5


class Watched(Master):
    """A master that keeps what its peers brought about."""

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder, **settings)
        self.higher_epochs: list[int] = []
        self.known: dict[str, str] = {}
        self.hooks = replace(
            self.hooks,
            on_higher_epoch=self.higher_epochs.append,
            on_replica=self._know,
        )

    def _know(self, name: str, address: str, _: object) -> None:
        self.known[name] = address

    def hello(self, name: str = "stranger", **changed: object) -> Hello:
        log = self.data_dir
        changed.setdefault("format", VERSION)
        return Hello(name, log.position, log.lineage, "http://203.0.113.9:80", **changed)


Attack = Callable[[Watched, Stranger], Awaitable[object]]


async def read_everything(watched: Watched, stranger: Stranger) -> object:
    stranger.say(watched.hello())
    await stranger.answer()
    stranger.say(Fetch(1, 0, 2**40, 4))
    return (await stranger.answer())[1]


async def take_a_snapshot(watched: Watched, stranger: Stranger) -> object:
    stranger.say(watched.hello())
    await stranger.answer()
    stranger.say(FetchSnapshot(1, b"", 0, 4))
    return await stranger.answer()


async def end_the_reign(watched: Watched, stranger: Stranger) -> object:
    (reign,) = watched.data_dir.lineage
    made_up = Reign(reign.epoch + 7, b"x" * 16, reign.first_offset)
    stranger.say(Hello("stranger", Position(1, 1, 1), (reign, made_up)))
    await eventually(lambda: watched.higher_epochs, _NOTHING_SECONDS)
    return watched.higher_epochs


async def promote_himself(watched: Watched, stranger: Stranger) -> object:
    (reign,) = watched.data_dir.lineage
    made_up = Reign(reign.epoch + 1, b"y" * 16, reign.first_offset)
    stranger.say(Hello("stranger", Position(1, 1, 1), (reign, made_up), is_master=True))
    await eventually(lambda: watched.higher_epochs, _NOTHING_SECONDS)
    return watched.higher_epochs


async def fake_a_quorum(watched: Watched, stranger: Stranger) -> object:
    stranger.say(watched.hello())
    position = watched.data_dir.position
    stranger.say(Ack(position.offset, position.epoch, "in_sync"))
    publisher = watched.publisher
    await eventually(lambda: publisher.held_offset(1) == position.offset, _NOTHING_SECONDS)
    return publisher.held_offset(1)


async def be_on_the_roster(watched: Watched, stranger: Stranger) -> object:
    stranger.say(watched.hello())
    await eventually(watched.publisher.replicas, _NOTHING_SECONDS)
    return watched.publisher.replicas()


async def name_an_address_to_connect_to(watched: Watched, stranger: Stranger) -> object:
    stranger.say(watched.hello(sync_address="203.0.113.9:15502"))
    await eventually(lambda: watched.known, _NOTHING_SECONDS)
    return watched.known


async def ask_who_reigns(watched: Watched, stranger: Stranger) -> object:
    stranger.say(Inquiry("stranger"))
    return await stranger.answer()


ATTACKS: tuple[Attack, ...] = (
    read_everything,
    take_a_snapshot,
    end_the_reign,
    promote_himself,
    fake_a_quorum,
    be_on_the_roster,
    name_an_address_to_connect_to,
    ask_who_reigns,
)
KEYS = {"plain": None, "another secret": keys_of_secret(OTHER_SECRET)}


async def watched_master(bench: Bench, **settings: object) -> Watched:
    bench.master_type = Watched
    master = await bench.master(**settings)
    assert isinstance(master, Watched)
    master.set_many(10)
    return master


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@on_loop
async def test_open_master_serves_whoever_reaches_it(bench, attack):
    async with bench:
        watched = await watched_master(bench)
        with Stranger(watched.addresses[1]) as stranger:
            assert await attack(watched, stranger)


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@on_loop
async def test_closed_master_serves_no_stranger(bench, attack, keys):
    """Cites K2 and K7."""
    async with bench:
        watched = await watched_master(bench, replication__secret=SECRET)
        address = watched.addresses[1]
        with (
            Stranger(address, keys=keys, seconds=_NOTHING_SECONDS) as stranger,
            pytest.raises((AssertionError, zmq.ZMQError)),
        ):
            await attack(watched, stranger)
        publisher = watched.publisher
        assert (publisher.replicas(), publisher.held_offset(1)) == ((), 0)
        assert (watched.higher_epochs, watched.known) == ([], {})


@pytest.mark.parametrize("keys", [None, KEYS["another secret"], keys_of_secret(SECRET)])
@on_loop
async def test_stream_is_heard_by_members_alone(bench, keys):
    """Cites K2 and K7: a stranger who subscribes hears neither frames nor heartbeats."""
    async with bench:
        watched = await watched_master(bench, replication__secret=SECRET)
        address = watched.addresses[0]
        is_member = keys is not None and keys.servers == keys_of_secret(SECRET).servers
        with Stranger(address, zmq.SUB, keys, _NOTHING_SECONDS) as stranger:
            stranger.socket.setsockopt(zmq.SUBSCRIBE, b"")
            if is_member:
                await eventually(lambda: stranger.socket.poll(0))
                return
            for _ in range(20):
                watched.set_many(5)
                await asyncio.sleep(_NOTHING_SECONDS / 20)
            assert not stranger.socket.poll(0)


@on_loop
async def test_replica_with_the_secret_is_served(bench):
    """Cites K1 and K7: also as the master's successor would be, by the same secret."""
    async with bench:
        master = await bench.master(replication__secret=SECRET)
        master.set_many(50)
        replica = await bench.replica(master, replication__secret=SECRET)
        await until_level(master, replica)
        assert replica.counted[FAILED_HANDSHAKES] == 0


@on_loop
async def test_replica_with_another_secret_is_told_so(bench):
    """Cites K5 and K7."""
    async with bench:
        master = await bench.master(replication__secret=SECRET)
        replica = await bench.replica(master, replication__secret=OTHER_SECRET)
        told = "another replication.secret"
        await eventually(lambda: replica.statuses and told in replica.status.note)
        await eventually(lambda: master.counted[FAILED_HANDSHAKES] > 0)
        assert master.publisher.replicas() == ()


class Impostor:
    """Listens where a replica's master is to be, and welcomes everybody in a made-up reign."""

    def __init__(self, keys: Keys | None) -> None:
        self.addresses = [f"{HOST}:{port}" for port in free_ports(2)]
        self._context = zmq.Context()
        self.stream, self.sync = self._context.socket(zmq.XPUB), self._context.socket(zmq.ROUTER)
        for socket, address in zip((self.stream, self.sync), self.addresses, strict=True):
            socket.setsockopt(zmq.LINGER, 0)
            if keys is not None:
                socket.setsockopt(zmq.CURVE_SERVER, 1)
                socket.setsockopt(zmq.CURVE_SECRETKEY, keys.listening_secret)
            socket.bind(f"tcp://{address}")

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def beat(self) -> None:
        """Send a heartbeat, and a welcome to whoever said something."""
        reign = Reign(1000, b"z" * 16, 1)
        self.stream.send_multipart(encode(Heartbeat(reign.history, 1000, 0, 1, 100)), zmq.NOBLOCK)
        while self.sync.poll(0):
            peer = self.sync.recv_multipart()[0]
            welcome = Welcome("impostor", Position(0, 0, 0), (reign,))
            self.sync.send_multipart([peer, *encode(welcome)])


@pytest.mark.parametrize(
    ("secret", "keys", "is_taken_in"),
    [
        ({}, None, True),
        ({"replication__secret": SECRET}, None, False),
        ({"replication__secret": SECRET}, keys_of_secret(OTHER_SECRET), False),
    ],
    ids=["open", "plain", "another secret"],
)
@on_loop
async def test_replica_believes_no_stranger_in_its_masters_place(bench, secret, keys, is_taken_in):
    """Cites K4 and K7: a Welcome of a made-up higher epoch."""
    async with bench:
        with Impostor(keys) as impostor:
            replica = await bench.replica(impostor, **secret)
            for _ in range(20):
                impostor.beat()
                await asyncio.sleep(_NOTHING_SECONDS / 20)
            adopted = [reign.epoch for reign in replica.data_dir.lineage]
            assert adopted == ([1000] if is_taken_in else [])
