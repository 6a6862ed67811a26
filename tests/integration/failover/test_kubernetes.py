"""The client of Kubernetes' Leases, on a stand-in for the API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synap.failover.engine import Delete, EngineFailed, Put, Unchanged
from synap.failover.kubernetes import Kubernetes
from tests.kubernetes import TOKEN, ApiServer

ROOT = "/synap/blue/"
LEADER, EPOCH = ROOT + "leader", ROOT + "epoch"
EVERYTHING = (ROOT, ROOT + "~")
NS = 1_000_000_000


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


class Bench:
    """Clients whose clock a test holds in its hands."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self._server = server
        self._token = folder / "token"
        self._token.write_text(TOKEN + "\n")
        self.now_ns = 10**15

    def client(self, node: str) -> Kubernetes:
        return Kubernetes(
            self._server.url, "synap", "blue", 2.0, node=node, token_path=self._token,
            now_ns=lambda: self.now_ns,
        )  # fmt: skip

    def pass_seconds(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS)

    def forget_token(self) -> None:
        self._token.write_text("another one")


@pytest.fixture
def bench(server: ApiServer, tmp_path: Path) -> Bench:
    return Bench(server, tmp_path)


def leading(client: Kubernetes, epoch: int = 1) -> int:
    """Have a client lead; return its lease."""
    lease, ttl = client.grant(10)
    assert ttl == 10
    assert client.change(
        [Unchanged(LEADER, 0)], [Put(LEADER, b"one", lease), Put(EPOCH, b"%d" % epoch)]
    )
    return lease


def test_key_is_taken_by_one_and_changes_by_whoever_knows_its_revision(bench: Bench) -> None:
    one, other = bench.client("a"), bench.client("b")
    lease = leading(one)
    item = other.read(EVERYTHING)[LEADER]
    assert (item.value, item.lease) == (b"one", lease)
    second, _ = other.grant(10)
    assert not other.change([Unchanged(LEADER, 0)], [Put(LEADER, b"two", second)])
    # Another key's change is none of this one's.
    assert other.change([], [Put(ROOT + "config", b"{}")])
    assert one.change([Unchanged(LEADER, item.changed)], [Delete(LEADER)])
    assert sorted(other.read(EVERYTHING)) == [ROOT + "config", EPOCH]


def test_leader_that_renews_stays_and_one_that_does_not_is_over_after_its_time(
    bench: Bench,
) -> None:
    one, other = bench.client("a"), bench.client("b")
    lease = leading(one)
    assert LEADER in other.read(EVERYTHING)
    for _ in range(3):
        bench.pass_seconds(6)
        assert one.keep_alive(lease) == 10
        assert LEADER in other.read(EVERYTHING)
    bench.pass_seconds(10)
    assert LEADER not in other.read(EVERYTHING)
    assert leading(other, epoch=2)
    assert one.keep_alive(lease) == 0


def test_candidate_that_starts_gives_the_leader_a_whole_lease(bench: Bench) -> None:
    """It does not know how long ago the last renewal was, and the other's clock proves nothing."""
    leading(bench.client("a"))
    bench.pass_seconds(1000)
    other = bench.client("b")
    lease, _ = other.grant(10)
    assert not other.change([Unchanged(LEADER, 0)], [Put(LEADER, b"two", lease)])
    bench.pass_seconds(9.9)
    assert not other.change([Unchanged(LEADER, 0)], [Put(LEADER, b"two", lease)])
    bench.pass_seconds(0.2)
    assert other.change([Unchanged(LEADER, 0)], [Put(LEADER, b"two", lease)])


def test_taking_meets_a_renewal_that_came_between_look_and_change(
    bench: Bench, server: ApiServer
) -> None:
    """The renewal replaces the object that the key is in."""
    one, other = bench.client("a"), bench.client("b")
    lease = leading(one)
    other.read(EVERYTHING)
    bench.pass_seconds(10)
    find = other._find

    def find_and_be_late(name: str, deadline: float) -> object:
        found = find(name, deadline)
        if not server.conflicts:
            assert one.keep_alive(lease) == 10
        return found

    other._find = find_and_be_late  # type: ignore[assignment,method-assign]
    second, _ = other.grant(10)
    assert not other.change([Unchanged(LEADER, 0)], [Put(LEADER, b"two", second)])
    assert server.conflicts == 1
    assert one.read(EVERYTHING)[LEADER].value == b"one"


def test_member_goes_with_its_lease_and_an_older_agents_counts_for_nothing(bench: Bench) -> None:
    one, other = bench.client("a b/c"), bench.client("b")
    lease, _ = one.grant(10)
    key = ROOT + "members/a b/c"
    assert one.change([], [Put(key, b"here", lease)])
    assert other.read(EVERYTHING)[key].value == b"here"
    bench.pass_seconds(6)
    assert one.keep_alive(lease) == 10
    assert key in other.read(EVERYTHING)
    again = bench.client("a b/c")
    again.grant(10)
    assert key not in again.read(EVERYTHING)
    bench.pass_seconds(10)
    assert key not in other.read(EVERYTHING)


def test_key_of_a_node_goes_with_that_nodes_lease(bench: Bench) -> None:
    one, other = bench.client("a"), bench.client("b")
    lease, _ = one.grant(10)
    one.change([], [Put(ROOT + "members/a", b"here", lease)])
    one.change([], [Put(ROOT + "handover", b"to b", lease)])
    assert ROOT + "handover" in other.read(EVERYTHING)
    bench.pass_seconds(10)
    assert ROOT + "handover" not in other.read(EVERYTHING)


def test_annotations_of_others_stay(bench: Bench, server: ApiServer) -> None:
    client = bench.client("a")
    lease = leading(client)
    before = server.lease("synap-blue")
    client.keep_alive(lease)
    after = server.lease("synap-blue")
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert before["spec"]["renewTime"] != after["spec"]["renewTime"]
    assert before["spec"]["holderIdentity"] == after["spec"]["holderIdentity"] == str(lease)


def test_server_that_is_away_or_refuses_is_told(bench: Bench, server: ApiServer) -> None:
    client = bench.client("a")
    server.is_away = True
    with pytest.raises(EngineFailed, match="503 the server is currently unable"):
        client.read(EVERYTHING)
    server.is_away = False
    bench.forget_token()
    with pytest.raises(EngineFailed, match="401 Unauthorized"):
        client.read(EVERYTHING)


def test_state_that_somebody_else_wrote_is_refused(bench: Bench, server: ApiServer) -> None:
    client = bench.client("a")
    leading(client)
    server._leases["synap-blue"]["metadata"]["annotations"]["synap-state"] = "{]"
    with pytest.raises(EngineFailed, match="can't be read"):
        client.read(EVERYTHING)


@pytest.mark.parametrize("holder", ["\u00b2", "9" * 5000, "x"])
def test_holder_that_is_no_lease_holds_nothing(
    bench: Bench, server: ApiServer, holder: str
) -> None:
    client, other = bench.client("a"), bench.client("b")
    own, _ = client.grant(10)
    client.change([], [Put(ROOT + "members/a", b"here", own)])
    leading(other)
    name = next(each for each in server.names() if each != "synap-blue")
    server._leases[name]["spec"]["holderIdentity"] = holder
    assert set(other.read(EVERYTHING)) == {LEADER, EPOCH}


def test_lease_that_others_left_without_a_count_is_taken(bench: Bench, server: ApiServer) -> None:
    leading(bench.client("a"))
    spec = server._leases["synap-blue"]["spec"]
    spec |= {"holderIdentity": "", "leaseTransitions": None}
    leading(bench.client("b"), 2)
    assert server.lease("synap-blue")["spec"]["leaseTransitions"] == 1


def test_answer_of_another_kind_is_refused(bench: Bench, server: ApiServer) -> None:
    client = bench.client("a")
    lease = leading(client)
    server._leases["synap-blue"] = {"items": []}
    with pytest.raises(EngineFailed, match="is no Lease"):
        client.keep_alive(lease)
