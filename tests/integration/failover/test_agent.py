"""The agent's loop with a real etcd, over a node and voters that a test holds in its hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest

from synap.errors import WriterUnavailable
from synap.failover.agent import Agent
from synap.failover.engine import Engine, Item, Put, Unchanged
from synap.failover.etcd import Etcd
from synap.failover.hold import FOR_EVER_NS, AgentOptions
from synap.failover.home import Home
from synap.failover.kubernetes import Kubernetes
from synap.failover.records import Keys, encoded, view_of
from synap.failover.rules import Leader, Member, Settings, Standing, View
from synap.ipc.admin_messages import LeaseHeld
from synap.node.identity import NodeIdentity
from synap.position import Reign
from synap.replication.rules.reigns import Rank
from synap.shared.board import BoardView
from tests.etcd import EtcdCluster
from tests.kubernetes import TOKEN, ApiServer
from tests.support import eventually

TTL = 2
HISTORY = bytes(range(16))
EQUAL = Rank(1, 1, 10)
OTHER = Member("b", "http://b:1", Rank(1, 1, 10), known_epoch=1)


class Node:
    """A node without processes; `grants` and `promoted` are what its owner was told."""

    def __init__(self, quorum: int = 1, *, is_master: bool = False) -> None:
        self.id = "a"
        self.quorum = quorum
        self.known = NodeIdentity(
            "a" * 16, "master" if is_master else "replica", (Reign(1, HISTORY, 1),)
        )
        self.grants: list[tuple[int, tuple[str, ...]]] = []
        self.promoted: list[int] = []
        self.followed_url = ""
        self.is_hung = False
        self.held = 10

    @property
    def view(self) -> BoardView:
        tick_ns = 1 if self.is_hung else time.monotonic_ns()
        return BoardView(self.known.role, owner_pid=7, applied_offset=10, tick_ns=tick_ns)

    def identity(self) -> NodeIdentity:
        return self.known

    def histories(self, known: NodeIdentity) -> tuple[str, ...]:
        return (HISTORY.hex(),)

    def member(self, known: NodeIdentity, leader: Leader | None) -> Member:
        reigns = known.role == "master" and not known.ended_by_epoch
        return Member("a", "http://a:1", Rank(1, 1, 10), is_reigning=reigns, known_epoch=1)

    def hears_master(self) -> bool:
        return False

    def as_leader(self, known: NodeIdentity, epoch: int, *, is_reigning: bool) -> Leader:
        return Leader("a", known.id, epoch, is_reigning, "a:1", "a:2", "http://a:1", 10)

    def followed(self, known: NodeIdentity) -> tuple[str, str]:
        return known.master_address, known.master_sync_address

    def seal(self, epoch: int) -> Rank:
        return Rank(1, 1, 10)

    def promote(self, epoch: int) -> bool:
        self.promoted.append(epoch)
        lineage = (*self.known.lineage, Reign(epoch, b"x" * 16, 11))
        self.known = msgspec.structs.replace(self.known, role="master", lineage=lineage)
        return True

    def follow(self, leader: Leader) -> None:
        self.followed_url = leader.url

    def pause(self, seconds: float) -> int:
        raise WriterUnavailable

    def resume(self) -> None:
        raise AssertionError("it was not paused")

    def grant(self, until_ns: int, alone_until_ns: int, voters: tuple[str, ...]) -> LeaseHeld:
        if self.is_hung:
            raise WriterUnavailable
        self.grants.append((until_ns, voters))
        return LeaseHeld(1, self.held)


class Voters:
    """What other nodes answer to a seal."""

    def __init__(self, rank: Rank | None = EQUAL, seconds: float = 0.0) -> None:
        self._rank = rank
        self._seconds = seconds
        self.asked = 0

    def seals(self, voters: Sequence[Member], epoch: int, candidate: str) -> list[Standing]:
        self.asked += len(voters)
        time.sleep(self._seconds)
        return [] if self._rank is None else [Standing(each.id, self._rank) for each in voters]

    def offset(self, url: str) -> int:
        return 10


class Bench:
    """A cluster's keys at an engine, under a name of its own."""

    def __init__(self, new_engine: Callable[[], Engine], name: str) -> None:
        self.engine = new_engine()
        self._new_engine = new_engine
        self.keys = Keys(name)
        self._name = name

    def put(self, key: str, record: msgspec.Struct, lease: int = 0) -> None:
        self.engine.change([], [Put(key, encoded(record), lease)])

    def view(self) -> View:
        return view_of(self.engine.read(*self.keys.state), self.keys)

    def begun(self, quorum: int = 1, *voters: str) -> None:
        """Have the cluster be there, without a master."""
        names = voters or ("a", "b", "m")
        self.put(self.keys.config, Settings(quorum, names, histories=(HISTORY.hex(),)))
        self.put(self.keys.member("b"), OTHER)
        self.put(self.keys.member("m"), msgspec.structs.replace(OTHER, id="m", unfit="hangs"))
        self.engine.change([], [Put(self.keys.epoch, b"1")])

    @contextmanager
    def agent(self, node: Node, voters: Voters, engine: Engine | None = None) -> Iterator[Agent]:
        options = AgentOptions(self._name, TTL, lambda _: 1.0, 0.2, 100)
        engine = engine or self._new_engine()
        agent = Agent(engine, cast(Home, node), voters, options, lambda _: None)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            yield agent
        finally:
            agent.stop()
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def bench(server: EtcdCluster, request: pytest.FixtureRequest) -> Bench:
    return Bench(lambda: Etcd([server.urls], 2.0), request.node.name)


class Robbed(Etcd):
    """etcd that gives the key to another node just after each look, once it is told to."""

    def __init__(self, url: str, keys: Keys) -> None:
        super().__init__([url], 2.0)
        self._keys = keys
        self.is_armed = False

    def read(self, *spans: tuple[str, str]) -> dict[str, Item]:
        items = super().read(*spans)
        if self.is_armed:
            thief = Leader("b", "b" * 16, 9, False, "b:1", "b:2", "http://b:1")
            self.change([], [Put(self._keys.leader, encoded(thief))])
        return items


def worse(**changes: object) -> Member:
    return msgspec.structs.replace(OTHER, rank=Rank(1, 1, 9), **changes)


def test_candidate_with_its_seals_leads_in_the_epoch_that_it_was_given(bench: Bench) -> None:
    """Cites S3."""
    bench.begun()
    bench.put(bench.keys.member("b"), worse())
    node = Node()
    with bench.agent(node, Voters(Rank(1, 1, 9))):
        eventually(lambda: node.grants)
        leader = bench.view().leader
        assert leader is not None
        assert (node.promoted, leader.epoch, leader.is_reigning) == ([2], 2, True)
        # With a quorum the seals are what protects, so the lease has no end.
        assert node.grants[-1] == (FOR_EVER_NS, ("a", "b", "m"))


@pytest.mark.parametrize(
    "voters",
    [Voters(Rank(1, 1, 11)), Voters(None), Voters(Rank(1, 1, 9), seconds=1.5)],
    ids=["one is ahead", "none promises", "the lease was over by then"],
)
def test_candidate_that_may_not_reign_lets_go_of_the_key(bench: Bench, voters: Voters) -> None:
    """Cites S3; a seal that comes when the lease is over is worth nothing."""
    bench.begun()
    bench.put(bench.keys.member("b"), worse())
    bench.put(bench.keys.member("m"), worse(id="m", unfit="hangs"))
    node = Node()
    with bench.agent(node, voters):
        eventually(lambda: voters.asked >= 2)
        eventually(lambda: not bench.view().is_taken)
    assert node.promoted == []


def test_without_a_quorum_the_lease_ends_before_the_engine_ends_it(bench: Bench) -> None:
    node = Node(0, is_master=True)
    with bench.agent(node, Voters()):
        eventually(lambda: node.grants)
        before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        count = len(node.grants)
        eventually(lambda: len(node.grants) > count)
        # Two seconds were granted, less a margin of one.
        assert 0 < node.grants[-1][0] - before_ns < 1.5e9


def test_owner_that_hangs_keeps_the_key_until_its_time_is_over(bench: Bench) -> None:
    """Without a quorum it may still answer; nobody else may before."""
    node = Node(0, is_master=True)
    with bench.agent(node, Voters()):
        eventually(lambda: node.grants)
        node.is_hung = True
        eventually(lambda: not bench.view().is_taken)
        assert time.clock_gettime_ns(time.CLOCK_BOOTTIME) >= node.grants[-1][0]
        node.is_hung = False


def test_master_that_finds_another_one_leading_follows_it(bench: Bench) -> None:
    bench.begun()
    bench.put(bench.keys.leader, Leader("b", "b" * 16, 5, True, "b:1", "b:2", "http://b:1"))
    node = Node(is_master=True)
    with bench.agent(node, Voters()):
        assert eventually(lambda: node.followed_url) == "http://b:1"


def test_master_goes_on_in_its_reign_where_no_epoch_was_given_meanwhile(bench: Bench) -> None:
    bench.begun()
    bench.put(bench.keys.member("b"), worse())
    node = Node(is_master=True)
    with bench.agent(node, Voters()):
        eventually(lambda: node.grants)
        assert node.promoted == []
        assert bench.view().epoch == 1


def test_master_that_lost_the_key_unseen_takes_no_voter_in(
    bench: Bench, server: EtcdCluster
) -> None:
    """A candidate that knows fewer voters than the master counts needs too few seals."""
    node, engine = Node(is_master=True), Robbed(server.urls, bench.keys)
    with bench.agent(node, Voters(), engine):
        eventually(lambda: node.grants)
        engine.is_armed = True
        eventually(lambda: (leader := bench.view().leader) is not None and leader.id == "b")
        bench.put(bench.keys.member("c"), worse(id="c", is_joined=True))
        eventually(lambda: node.grants[-1][0] == 0)
    settings = bench.view().settings
    assert settings is not None
    assert settings.voters == ("a",)


def test_joined_replica_becomes_a_voter_and_its_acks_count_after_that(bench: Bench) -> None:
    node = Node(is_master=True)
    with bench.agent(node, Voters()):
        eventually(lambda: node.grants)
        bench.put(bench.keys.member("c"), worse(id="c", is_joined=True))
        bench.put(bench.keys.member("d"), worse(id="d", is_joined=True, votes=False))
        eventually(lambda: node.grants[-1][1] == ("a", "c"))
        settings = bench.view().settings
        assert settings is not None
        assert settings.voters == ("a", "c")


def test_voter_that_leaves_counts_at_once_no_more_and_is_one_until_it_is_not_needed(
    bench: Bench,
) -> None:
    """Until the others hold what it acknowledged, a candidate needs its seal."""
    node = Node(is_master=True)
    node.held = 9
    with bench.agent(node, Voters()):
        eventually(lambda: node.grants)
        leaving = Settings(1, ("a", "b", "c"), histories=(HISTORY.hex(),), leaving=("c",))
        bench.put(bench.keys.config, leaving)
        eventually(lambda: node.grants[-1][1] == ("a", "b"))
        time.sleep(0.6)
        settings = bench.view().settings
        assert settings is not None
        assert settings.voters == ("a", "b", "c")
        node.held = 10
        eventually(lambda: (now := bench.view().settings) and now.voters == ("a", "b"))


class Leaving(Node):
    """A master that can step down; `wanted` is what others could see before it paused."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(is_master=True)
        self._bench = bench
        self.wanted = ""
        self.stepped_down = False

    def pause(self, seconds: float) -> int:
        self.wanted = self._bench.view().wanted
        return 10

    def step_down(self, offset: int, heir_url: str) -> None:
        self.stepped_down = True


def test_leader_that_ends_says_so_before_its_writes_wait_and_follows_its_heir(
    bench: Bench,
) -> None:
    """So that whoever takes over looks often by then, and what waited here is told where it is."""
    node = Leaving(bench)

    def take_over() -> None:
        eventually(lambda: node.stepped_down and not bench.view().is_taken)
        bench.put(bench.keys.leader, Leader("b", "b" * 16, 2, True, "b:1", "b:2", "http://b:1"))

    heir = threading.Thread(target=take_over)
    with bench.agent(node, Voters()):
        bench.put(bench.keys.member("b"), worse(is_joined=True))
        eventually(lambda: node.grants and node.grants[-1][1] == ("a", "b"))
        heir.start()
    heir.join()
    assert (node.wanted, node.followed_url) == ("b", "http://b:1")
    # It is done, and nobody is to do it again.
    assert bench.view().wanted == ""


def test_agent_takes_the_place_of_a_leader_whose_lease_nobody_renews_in_kubernetes(
    tmp_path: Path,
) -> None:
    """On a stand-in for its API server."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with ApiServer() as server:

        def client(node: str) -> Kubernetes:
            return Kubernetes(server.url, "synap", "blue", 1.0, node=node, token_path=token)

        bench, gone, node = Bench(lambda: client("a"), "blue"), client("m"), Node(0)
        lease, _ = gone.grant(TTL)
        bench.engine = gone
        bench.put(bench.keys.config, Settings(0, ("a", "m"), histories=(HISTORY.hex(),)))
        old = Leader("m", "m" * 16, 1, True, "m:1", "m:2", "http://m:1", 10)
        assert gone.change(
            [Unchanged(bench.keys.leader, 0)],
            [Put(bench.keys.leader, encoded(old), lease), Put(bench.keys.epoch, b"1")],
        )
        with bench.agent(node, Voters(None)):
            assert eventually(lambda: node.followed_url) == "http://m:1"
            eventually(lambda: node.grants)
            leader = bench.view().leader
            assert leader is not None
            assert (leader.id, leader.epoch, node.promoted) == ("a", 2, [2])
            count = len(node.grants)
            eventually(lambda: len(node.grants) > count)
        assert gone.keep_alive(lease) == 0
