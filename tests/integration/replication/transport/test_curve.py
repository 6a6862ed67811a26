"""Keys and encrypted replication: files, handshakes, and who gets nothing."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
import zmq
from typer.testing import CliRunner

from synap.config.loading import load_config
from synap.errors import ConfigInvalid
from synap.position import START
from synap.replication.rules.messages import Hello, encode
from synap.replication.rules.progress import LinkState
from synap.replication.transport.curve import MasterKeys, load_keys
from synap.shared.series import FAILED_HANDSHAKES
from tests.integration.key_ring import KeyRing
from tests.integration.linked_nodes import eventually, on_loop, until_level
from tests.integration.tap import Tap
from tests.support import HOST
from workers.cli.app import app

PUBLIC_KEY = r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}"


def test_keygen_writes_the_secret_for_the_owner_alone(ring: KeyRing) -> None:
    """Cites K6."""
    path = ring.file("node")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch(PUBLIC_KEY, ring.public["node"])
    assert zmq.curve_public(path.read_bytes().strip()).decode() == ring.public["node"]


def test_keygen_leaves_a_file_that_is_there_alone(tmp_path: Path) -> None:
    arguments = ["keygen", "--output-dir", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    before = (tmp_path / "synap.key").read_bytes()
    again = CliRunner().invoke(app, arguments)
    assert "synap.key exists and is left as it is" in str(again.exception)
    assert (tmp_path / "synap.key").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_key_file_that_others_may_use_is_refused(ring: KeyRing, mode: int) -> None:
    """Cites K6."""
    path = ring.file("node")
    path.chmod(mode)
    with pytest.raises(ConfigInvalid, match=f"mode 0{mode:o}.; `chmod 600 {path}`"):
        load_keys(ring.config("node"))
    path.chmod(0o400)
    assert load_keys(ring.config("node")) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_key_file_of_another_user_is_refused(ring: KeyRing) -> None:
    """Cites K6."""
    os.chown(ring.file("node"), 12345, -1)
    with pytest.raises(ConfigInvalid, match="belongs to user 12345"):
        load_keys(ring.config("node"))


@pytest.mark.parametrize("content", [b"", b"short\n", b"#" * 40, b"x" * 1000, b"\xff" * 40])
def test_key_file_that_holds_no_key_is_refused(ring: KeyRing, content: bytes) -> None:
    ring.file("node").write_bytes(content)
    with pytest.raises(ConfigInvalid, match="holds no secret key"):
        load_keys(ring.config("node"))


def test_key_file_that_is_none_is_refused(ring: KeyRing, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, why in (("pipe", "it is no file"), ("none", "No such file"), (".", "it is no file")):
        config = ring.config("node", replication__curve__secret_key_file=str(tmp_path / name))
        with pytest.raises(ConfigInvalid, match=f"secret_key_file = .*{why}"):
            load_keys(config)


def test_public_key_of_another_secret_key_is_refused(ring: KeyRing) -> None:
    ring.file("other")
    ring.file("node")
    good = ring.config("node", replication__curve__public_key=ring.public["node"])
    keys = load_keys(good)
    assert keys is not None
    assert keys.secret.decode() not in repr(keys)
    bad = ring.config("node", replication__curve__public_key=ring.public["other"])
    with pytest.raises(ConfigInvalid, match=r"not to replication\.curve\.public_key"):
        load_keys(bad)


def test_master_keys_are_tried_in_turn_until_a_round_is_over(ring: KeyRing) -> None:
    """Cites K4."""
    keys = load_keys(load_config(None, _dotted(ring.settings("a", "a b c", "a")), {}))
    assert keys is not None
    tried = MasterKeys(keys)
    assert [tried.turn(), tried.turn(), tried.turn()] == [True, True, False]
    assert tried.current == ring.public["a"].encode()
    tried.turn()
    tried.begin_round()
    assert [tried.turn(), tried.turn(), tried.turn()] == [True, True, False]
    assert tried.current == ring.public["b"].encode()
    assert MasterKeys(None).turn() is False


def _dotted(settings: dict[str, object]) -> dict[str, object]:
    return {key.replace("__", "."): value for key, value in settings.items()}


@on_loop
async def test_replicas_with_keys_follow_a_master_with_keys(bench, ring):
    """Cites K1 and K4: one replica knows the master's key alone, one tries three in turn."""
    async with bench:
        master = await bench.master(**ring.settings("m", "m", "r s"))
        master.set_many(50)
        direct = await bench.replica(master, "direct", **ring.settings("r", "m", "m"))
        patient = await bench.replica(master, "patient", **ring.settings("s", "r s m", "m"))
        await until_level(master, direct, patient)
        master.set_many(50, b"x" * 10_000)
        await until_level(master, direct, patient)
        assert direct.counted[FAILED_HANDSHAKES] == 0
        assert patient.counted[FAILED_HANDSHAKES] >= 2


@on_loop
async def test_value_is_not_readable_on_the_wire(bench, ring):
    """Cites K1."""
    async with bench:
        for encrypted in (False, True):
            name = f"encrypted{encrypted}"
            master = await bench.master(
                f"master{name}", **(ring.settings("m", "m", "r") if encrypted else {})
            )
            settings = ring.settings("r", "m", "m") if encrypted else {}
            async with Tap(master.addresses) as tap:
                replica = await bench.replica(tap, name, **settings)
                await until_level(master, replica)
                master.set(b"key", b"a secret value")
                await until_level(master, replica)
                await replica.stop()
            assert len(tap.content) > 400
            assert (b"a secret value" in tap.content) is not encrypted


@on_loop
async def test_replica_whose_key_is_not_allowed_gets_nothing_and_says_why(bench, ring, caplog):
    """Cites K2 and K5."""
    async with bench:
        master = await bench.master(**ring.settings("m", "m", "r"))
        master.set(b"key", b"value")
        replica = await bench.replica(master, **ring.settings("stranger", "m", "m"))
        await eventually(lambda: replica.has_state(LinkState.DISCONNECTED))
        assert replica.status.note.endswith(
            f"the master does not allow this node's public key {ring.public['stranger']}; "
            "add it to replication.curve.allowed_keys there"
        )
        await eventually(lambda: master.counted[FAILED_HANDSHAKES] >= 4)
        assert replica.status.master_offset == 0
        assert master.publisher.replicas() == ()
        told = [each.message for each in caplog.records if "with a peer failed" in each.message]
        assert len(told) == 1
        assert f"{ring.public['stranger']} from {HOST} is not among" in told[0]


@on_loop
async def test_replica_with_a_wrong_master_key_gets_nothing_and_says_why(bench, ring):
    """Cites K2 and K5."""
    async with bench:
        master = await bench.master(**ring.settings("m", "m", "r"))
        replica = await bench.replica(master, **ring.settings("r", "other", "m"))
        await eventually(lambda: replica.has_state(LinkState.DISCONNECTED))
        assert "is not among replication.curve.server_key here" in replica.status.note
        assert master.counted[FAILED_HANDSHAKES] > 0
        assert replica.counted[FAILED_HANDSHAKES] > 0
        assert master.publisher.replicas() == ()


@on_loop
async def test_plain_replica_of_an_encrypted_master_gets_nothing_and_says_why(bench, ring):
    """Cites K2, K3 and K5."""
    async with bench:
        master = await bench.master(**ring.settings("m", "m", "r"))
        replica = await bench.replica(master)
        await eventually(lambda: replica.has_state(LinkState.DISCONNECTED))
        assert "uses CurveZMQ" in replica.status.note
        assert "replication.curve" in replica.status.note
        await eventually(lambda: master.counted[FAILED_HANDSHAKES] > 0)
        assert replica.status.last_contact_ns == 0


@on_loop
async def test_encrypted_replica_of_a_plain_master_says_why(bench, ring):
    """Cites K3 and K5: it never falls back to plain text."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master, **ring.settings("r", "m", "m"))
        await eventually(lambda: replica.has_state(LinkState.DISCONNECTED))
        await eventually(lambda: master.counted[FAILED_HANDSHAKES] > 0)
        assert replica.status.note
        assert master.publisher.replicas() == ()


@pytest.mark.parametrize("keys", ["none", "not allowed", "wrong server"])
@on_loop
async def test_stranger_is_sent_no_message_on_either_channel(bench, ring, keys):
    """Cites K2: with no key, a key that is not allowed, and another server's key."""
    async with bench:
        master = await bench.master(**ring.settings("m", "m", "r"))
        replica = await bench.replica(master, **ring.settings("r", "m", "m"))
        await until_level(master, replica)
        context = zmq.Context()
        try:
            stream, sync = (context.socket(kind) for kind in (zmq.SUB, zmq.DEALER))
            stream.setsockopt(zmq.SUBSCRIBE, b"")
            for each, address in zip((stream, sync), master.addresses, strict=True):
                if keys != "none":
                    server = "m" if keys == "not allowed" else "other"
                    ring.file(server)
                    each.curve_publickey, each.curve_secretkey = zmq.curve_keypair()
                    each.curve_serverkey = ring.public[server].encode()
                each.connect(f"tcp://{address}")
            for _ in range(20):
                sync.send_multipart(encode(Hello("stranger", START)))
            before = master.counted[FAILED_HANDSHAKES]
            master.set_many(20)
            await eventually(lambda: master.counted[FAILED_HANDSHAKES] >= before + 2)
            await until_level(master, replica)
            beats = len(replica.statuses)
            await eventually(lambda: len(replica.statuses) > beats + 10)
            assert (stream.poll(0), sync.poll(0)) == (0, 0)
        finally:
            context.destroy(linger=0)
        assert [each.id for each in master.publisher.replicas()] == ["replica"]
        assert master.publisher.violations == 0
