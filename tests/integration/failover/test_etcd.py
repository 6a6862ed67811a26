"""The client of etcd, on a real one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from synap.failover.engine import Delete, EngineFailed, Put, Unchanged
from synap.failover.etcd import Etcd
from tests.etcd import EtcdCluster
from tests.support import HOST, eventually, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def etcd(server: EtcdCluster) -> Etcd:
    return Etcd([server.urls], 5.0)


def test_key_is_taken_by_one(etcd: Etcd) -> None:
    lease, ttl = etcd.grant(5)
    assert ttl == 5
    take = [Unchanged("/t/leader", 0)]
    assert etcd.change(take, [Put("/t/leader", b"one", lease)])
    assert not etcd.change(take, [Put("/t/leader", b"two", lease)])
    item = etcd.read(("/t/", "/t0"))["/t/leader"]
    assert (item.value, item.lease) == (b"one", lease)
    assert etcd.change([Unchanged("/t/leader", item.changed)], [Delete("/t/leader")])
    assert etcd.read(("/t/", "/t0")) == {}


def test_lease_that_is_gone_is_told_though_the_answer_is_200(etcd: Etcd) -> None:
    lease, _ = etcd.grant(5)
    etcd.change([], [Put("/g/leader", b"one", lease)])
    assert etcd.keep_alive(lease) == 5
    etcd.revoke(lease)
    assert etcd.keep_alive(lease) == 0
    assert etcd.read(("/g/", "/g0")) == {}
    etcd.revoke(lease)


def test_granted_time_is_told_and_not_the_wanted_one(etcd: Etcd) -> None:
    lease, ttl = etcd.grant(1)
    assert ttl >= 1
    etcd.change([], [Put("/s/key", b"one", lease)])
    eventually(lambda: not etcd.read(("/s/", "/s0")))


def test_spans_are_of_one_state(etcd: Etcd) -> None:
    etcd.change([], [Put("/m/a", b"1"), Put("/m/h/1", b"2"), Put("/m/z", b"3")])
    assert sorted(etcd.read(("/m/a", "/m/h"), ("/m/i", "/m/zz"))) == ["/m/a", "/m/z"]


def test_endpoint_that_is_silent_costs_its_part_of_the_time(server: EtcdCluster) -> None:
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        both = Etcd([f"http://{HOST}:{port}", server.urls], 1.0)
        began = time.monotonic()
        both.grant(5)
        assert time.monotonic() - began < 0.9
        # The one that answered is asked first from then on.
        began = time.monotonic()
        both.grant(5)
        assert time.monotonic() - began < 0.4


def test_call_that_nobody_answers_ends_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(EngineFailed, match="refused"):
        Etcd([f"http://{HOST}:{free_port()}"] * 2, 0.5).grant(5)
    assert time.monotonic() - began < 2.0
