"""The client of etcd, on a real one."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from synap.failover.engine import Delete, EngineFailed, Put, Unchanged
from synap.failover.etcd import Etcd, _text
from tests.etcd import EtcdCluster, EtcdTls
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


@pytest.fixture
def tls(tmp_path: Path) -> EtcdTls:
    """An authority, a member's certificate, and a client's, which must have no common name."""
    ca = trustme.CA()
    names = {name: ca.issue_cert(HOST) for name in ("member", "client")}
    for name, cert in names.items():
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        cert.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    return EtcdTls(tmp_path / "ca.pem", tmp_path / "member.pem", tmp_path / "member.key", context)


# Checking a password takes etcd long on a busy machine.
SECONDS = 20.0


def with_users(root: Etcd) -> None:
    """Have etcd want a login, by which the user `synap` may touch Synap's keys alone."""
    root._call("/v3/auth/user/add", {"name": "root", "password": "root's"})
    root._call("/v3/auth/user/grant", {"user": "root", "role": "root"})
    root._call("/v3/auth/role/add", {"name": "synap"})
    span = {"key": _text("/synap/"), "range_end": _text("/synap0"), "permType": "READWRITE"}
    root._call("/v3/auth/role/grant", {"name": "synap", "perm": span})
    root._call("/v3/auth/user/add", {"name": "synap", "password": "secret"})
    root._call("/v3/auth/user/grant", {"user": "synap", "role": "synap"})
    root._call("/v3/auth/enable", {})


def test_login_and_certificates_are_used_and_a_lost_token_is_asked_for_again(
    tmp_path: Path, tls: EtcdTls
) -> None:
    with EtcdCluster(tmp_path / "etcd", tls=tls) as server:
        with_users(Etcd([server.urls], SECONDS, tls=tls.client))
        etcd = Etcd([server.urls], SECONDS, tls=tls.client, user="synap", password="secret")
        lease, _ = etcd.grant(60)
        assert etcd.change([Unchanged("/synap/t/a", 0)], [Put("/synap/t/a", b"1", lease)])
        with pytest.raises(EngineFailed, match="permission denied"):
            etcd.change([], [Put("/other", b"1")])
        with pytest.raises(EngineFailed, match="authentication failed"):
            Etcd([server.urls], SECONDS, tls=tls.client, user="synap", password="no").grant(5)
        with pytest.raises(EngineFailed, match="permission denied"):
            Etcd([server.urls], SECONDS, tls=tls.client).read(("/synap/", "/synap0"))
        with pytest.raises(EngineFailed, match="certificate"):
            Etcd([server.urls], 1.0).grant(5)
        # Its tokens live in the member's memory.
        (member,) = server.members
        member.kill()
        member.start()
        assert etcd.keep_alive(lease) == 60
        assert etcd.read(("/synap/", "/synap0"))["/synap/t/a"].value == b"1"
