"""Masters and replicas on the test's own loop: real sockets, logs and stores, no processes."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import pytest
import uvloop
import zmq

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.frame import VERSION, Frame
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.position import START
from synap.replication.following.installer import Installer
from synap.replication.following.subscriber import Subscriber
from synap.replication.publishing.publisher import Publisher, PublisherHooks
from synap.replication.rules.follower_io import FollowerStatus, ReplicaLog
from synap.replication.rules.messages import Hello, Message, Welcome, answers, encode
from synap.replication.rules.progress import LinkState
from synap.replication.transport.curve import Keys
from synap.shared.board import ReplicaFacts
from synap.shared.series import Name
from tests.support import HOST, free_ports

DEADLINE_SECONDS = 20.0
SETTINGS = {
    "replication.heartbeat_interval_ms": 100,
    "replication.reconnect_delay_ms": 100,
    "persistence.wal.fsync_mode": "never",
    "persistence.wal.max_size_mb": 1,
}


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a uvloop of its own, as the processes do."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


async def eventually(predicate: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.005)


def _nothing() -> None:
    """Let an ack pass."""


def _forget(epoch: int) -> None:
    """Let a higher epoch pass."""


def _ignore(name: str, address: str, seats: object) -> None:
    """Let a replica join unnoticed."""


class Counted(Counter[Name]):
    """What was counted, as an owner's series would have it."""

    def count(self, name: Name, count: int = 1, /) -> None:
        self[name] += count


class OneNode:
    """A log that can be closed and opened again."""

    data_dir: DataDir
    # Names that a master's `replicas.json` would hold.
    awaited: tuple[str, ...] = ()

    def __init__(self, folder: Path, **settings: object) -> None:
        keys = {key.replace("__", "."): value for key, value in settings.items()}
        self.config: Config = load_config(
            None, {**SETTINGS, "data_dir": str(folder), **keys}, environ={}
        )
        self.paths = NodePaths.of(self.config)
        self.paths.create()
        self.counted = Counted()

    def open_log(self) -> None:
        node = Node.load_or_create(self.config, self.paths)
        self.data_dir = DataDir.open(
            self.config, self.paths, node, on_sync_failure=pytest.fail, has_peers=bool(self.awaited)
        )
        self._is_open = True

    async def start(self) -> None:
        """Begin to publish or to follow."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End that; the log stays open."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Stop, close the log and open it again, and start."""
        await self.stop()
        self.close_log()
        self.open_log()
        await self.start()

    def close_log(self) -> None:
        if self._is_open:
            self._is_open = False
            self.data_dir.close(clean=True)

    def digest(self) -> tuple[int, int, str]:
        return self.data_dir.store.reader().digest()

    def value(self, key: bytes) -> bytes | None:
        record, _ = self.data_dir.store.reader().get(key)
        return record.value if record is not None else None


class Master(OneNode):
    """A log that is written and published, in which some frames of the stream may get lost."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.ports = free_ports(2)
        self.addresses = [f"{HOST}:{port}" for port in self.ports]
        super().__init__(
            folder,
            server__node_id="master",
            replication__role="master",
            replication__replica_listen_address=self.addresses[0],
            replication__sync_listen_address=self.addresses[1],
            **settings,
        )
        self.lost_share = 0.0
        self.lost = 0
        self._random = random.Random(1)
        self.hooks = PublisherHooks(
            on_ack=_nothing,
            on_higher_epoch=_forget,
            on_replica=_ignore,
            addresses=tuple,
            is_known=bool,
            on_restart_over=lambda: self.begin_reign(),
            on_failure=pytest.fail,
        )
        self.open_log()

    async def start(self) -> None:
        self.publisher = Publisher(
            self.config,
            self.data_dir,
            known=dict.fromkeys(self.awaited, ""),
            count=self.counted.count,
        )
        await self.publisher.start(self.hooks)

    async def stop(self) -> None:
        await self.publisher.stop()

    def begin_reign(self) -> None:
        self.data_dir.begin_reign()
        frame = self.data_dir.mark_reign(time.time_ns() // 1_000_000)
        assert frame is not None
        self.publisher.publish(frame)

    def set(self, key: bytes, value: bytes) -> Frame:
        transaction = self.data_dir.store.begin()
        transaction.put(key, value, 0)
        frame = self.data_dir.commit(transaction, time.time_ns() // 1_000_000)
        if self._random.random() < self.lost_share:
            self.lost += 1
        else:
            self.publisher.publish(frame)
        return frame

    def set_many(self, count: int, value: bytes = b"v" * 100) -> None:
        for number in range(count):
            self.set(b"key %d" % (number % 200), value)

    def replica(self, name: str) -> ReplicaFacts | None:
        return next((each for each in self.publisher.replicas() if each.id == name), None)


class Replica(OneNode):
    """A log that follows a master; keeps what the subscriber shows."""

    def __init__(self, folder: Path, master: Master, **settings: object) -> None:
        super().__init__(
            folder,
            server__node_id=settings.pop("server__node_id", folder.name),
            replication__role="replica",
            replication__master_address=master.addresses[0],
            replication__master_sync_address=master.addresses[1],
            **settings,
        )
        self.statuses: list[FollowerStatus] = []
        # Where the master's replicas would be as masters, as told last.
        self.peers: tuple[str, ...] = ()
        self.open_log()

    def show(self, status: FollowerStatus) -> None:
        self.statuses.append(status)

    @property
    def status(self) -> FollowerStatus:
        return self.statuses[-1]

    def hear_peers(self, peers: tuple[str, ...]) -> None:
        self.peers = peers

    def hear_beat(self) -> None:
        """Nobody follows it."""

    def followed_log(self) -> ReplicaLog:
        """What the subscriber appends to."""
        return self.data_dir

    def has_state(self, state: LinkState) -> bool:
        return bool(self.statuses) and self.status.state is state

    def installer(self) -> Installer | None:
        """What carries a full resync out; None for nothing."""

    async def start(self) -> None:
        self.statuses.clear()
        self.subscriber = Subscriber(
            self.config,
            self.followed_log(),
            self,
            applied_time_ms=self.data_dir.applied.time_ms,
            count=self.counted.count,
            draw=lambda: 0.0,
            installer=self.installer(),
            on_peers=self.hear_peers,
            on_beat=self.hear_beat,
        )
        self.running = asyncio.create_task(self.subscriber.run())

    async def stop(self) -> None:
        self.subscriber.stop()
        await asyncio.wait_for(self.running, DEADLINE_SECONDS)


class Bench:
    """Makes nodes below a folder and ends them all.

    Attributes:
        folder: Each node has one of its name in it.
    """

    master_type: type[Master] = Master
    replica_type: type[Replica] = Replica

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def master(self, name: str = "master", **settings: object) -> Master:
        return await self._begin(self.master_type(self.folder / name, **settings))

    async def replica(self, master: Master, name: str = "replica", **settings: object) -> Replica:
        return await self._begin(self.replica_type(self.folder / name, master, **settings))

    async def _begin(self, node):
        self._stack.callback(node.close_log)
        await node.start()
        self._stack.push_async_callback(node.stop)
        return node


async def until_level(master: Master, *replicas: Replica) -> None:
    """Wait until the replicas say that they are in sync, and compare the digests."""
    offset = master.data_dir.position.offset
    for replica in replicas:
        await eventually(
            lambda replica=replica: (
                replica.has_state(LinkState.IN_SYNC) and replica.status.position.offset == offset
            )
        )
        assert replica.digest() == master.digest()


class Stranger:
    """A peer that says what it likes. A send that would wait is an error: the loop is shared."""

    def __init__(
        self,
        address: str,
        kind: int = zmq.DEALER,
        keys: Keys | None = None,
        seconds: float = DEADLINE_SECONDS,
        origin: str = "",
        *,
        is_greedy: bool = True,
    ) -> None:
        """
        Args:
            address: Whom it speaks to.
            kind: Of its socket.
            keys: What it encrypts with.
            seconds: How long it waits for an answer.
            origin: The address of this machine that it comes from; empty for the usual one.
            is_greedy: Whether its buffers take what is sent before it is read.
        """
        self._seconds = seconds
        self._context = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, 0)
        if keys is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, keys.servers[0])
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        if not is_greedy:
            self.socket.setsockopt(zmq.RCVHWM, 1)
            self.socket.setsockopt(zmq.RCVBUF, 4096)
        self.socket.connect(f"tcp://{origin}:0;{address}" if origin else f"tcp://{address}")

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def say(self, message: Message) -> None:
        self.socket.send_multipart(encode(message))

    async def answer(self):
        await eventually(lambda: self.socket.poll(0), self._seconds)
        return answers.decode(self.socket.recv_multipart())

    async def hello(self, name: str = "stranger") -> None:
        self.socket.send_multipart(encode(Hello(name, START, format=VERSION)))
        assert isinstance((await self.answer())[0], Welcome)
