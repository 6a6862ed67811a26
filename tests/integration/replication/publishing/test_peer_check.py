"""A master that starts asks those that followed it, over real sockets."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from synap.node.aside import Quarantine
from synap.node.identity import new_reign
from synap.replication.publishing.known_replicas import UNREADABLE, KnownReplicas, load_replicas
from synap.replication.publishing.peer_check import find_rival
from synap.replication.rules.crowd import Seat
from synap.replication.transport.curve import load_keys
from tests.integration.key_ring import KeyRing
from tests.integration.linked_nodes import Bench, eventually, on_loop
from tests.support import HOST, free_port

SECONDS = 5.0


@on_loop
async def test_promoted_replica_names_the_higher_epoch(bench: Bench) -> None:
    """E5."""
    async with bench:
        new = await bench.master()
        old_lineage = new.data_dir.lineage
        new.set_many(3)
        new.data_dir.node.begin_reign(new.data_dir.position.offset)
        addresses = [f"{HOST}:{free_port()}", new.addresses[1]]
        assert (await find_rival("old", old_lineage, addresses, SECONDS)).epoch == 2
        assert new.publisher.replicas() == ()
        assert new.publisher.violations == 0


@on_loop
async def test_encrypted_replica_is_asked_by_each_key_that_a_master_may_have(
    bench: Bench, ring: KeyRing
) -> None:
    """E5, K4."""
    async with bench:
        new = await bench.master(**ring.settings("m", "m", "o"))
        old_lineage = new.data_dir.lineage
        new.set_many(3)
        new.data_dir.node.begin_reign(new.data_dir.position.offset)
        settings = ring.settings("o", "r m", "m")
        keys = load_keys(ring.config("o", **settings))
        found, _ = await find_rival("old", old_lineage, [new.addresses[1]], SECONDS, keys)
        assert found == 2


@on_loop
@pytest.mark.parametrize("is_promoted", [True, False])
async def test_master_of_the_same_epoch_and_another_history_ends_the_reign(
    bench: Bench, is_promoted: bool
) -> None:
    """E5, E6: it was promoted too, or its machine crashed, which counts for less."""
    async with bench:
        new = await bench.master()
        common = new.data_dir.lineage
        new.set_many(3)
        new.data_dir.node.promote(new.data_dir.position.offset, None)
        own = (*common, new_reign(2, 2, is_unasked=not is_promoted))
        assert (await find_rival("old", own, [new.addresses[1]], SECONDS)).epoch == 2


@on_loop
async def test_strangers_and_followers_of_this_master_end_nothing(bench: Bench) -> None:
    """E5: a node that still follows does not listen, and nobody waits for it."""
    async with bench:
        stranger = await bench.master()
        began = time.monotonic()
        addresses = [f"{HOST}:{free_port()}", stranger.addresses[1]]
        assert (await find_rival("old", (new_reign(1, 1),), addresses, SECONDS)).epoch == 0
        assert time.monotonic() - began < SECONDS


@on_loop
async def test_nobody_is_waited_for_longer_than_the_bound(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """E5: a lone master starts, and says whom it did not hear."""
    async with bench:
        with socket.create_server((HOST, 0)) as mute:
            address = f"{HOST}:{mute.getsockname()[1]}"
            assert (await find_rival("old", (new_reign(1, 1),), [address], 0.1)).epoch == 0
        assert address in caplog.text


@on_loop
async def test_master_remembers_the_replicas_that_joined_it(bench: Bench, tmp_path: Path) -> None:
    """E5."""
    async with bench:
        path = tmp_path / "replicas.json"
        master = await bench.master()
        known = KnownReplicas(path, Quarantine(tmp_path / "foreign"))
        master.hooks = replace(master.hooks, on_replica=known.note)
        await master.restart()
        replica = await bench.replica(
            master, replication__replica_listen_address="0.0.0.0:7001",
            replication__sync_listen_address="0.0.0.0:7002",
        )  # fmt: skip
        await eventually(lambda: load_replicas(path) == {"replica": f"{HOST}:7002"})
        await known.stop()
        assert replica.config.replication.sync_listen_address == "0.0.0.0:7002"


@on_loop
async def test_file_of_known_replicas_is_bounded_and_may_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "replicas.json"
    known = KnownReplicas(path, Quarantine(tmp_path / "foreign"))
    seats = {}
    for number in range(100):
        # Each is gone when the next one comes.
        seats[f"r{number}"] = Seat("203.0.113.9", is_connected=False, heard_ns=number)
        known.note(f"r{number}", f"h{number}:1", seats)
    await known.stop()
    assert list(load_replicas(path)) == [f"r{number}" for number in range(36, 100)]
    assert msgspec.json.decode(path.read_bytes())["replicas"]["r99"] == "h99:1"
    path.write_bytes(b"{")
    assert load_replicas(path) == {UNREADABLE: ""}


@on_loop
@pytest.mark.parametrize("is_recovering", [True, False])
async def test_damaged_file_is_kept_aside_and_waited_for_while_it_matters(
    tmp_path: Path, is_recovering: bool
) -> None:
    path = tmp_path / "replicas.json"
    path.write_bytes(b"{")
    known = KnownReplicas(path, Quarantine(tmp_path / "foreign"))
    assert (tmp_path / "foreign" / "0001" / tmp_path.name / "replicas.json").read_bytes() == b"{"
    known.settle(is_recovering=is_recovering)
    known.note("replica1", "h1:1", {})
    await known.stop()
    assert load_replicas(path) == ({UNREADABLE: ""} if is_recovering else {}) | {"replica1": "h1:1"}
    assert not known.is_written(UNREADABLE) or is_recovering


@on_loop
@pytest.mark.parametrize("is_connected", [True, False])
async def test_known_replica_keeps_its_place_before_new_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_connected: bool
) -> None:
    """Cites K10: also while it is away, and over a restart."""
    path = tmp_path / "replicas.json"
    path.write_bytes(b'{"real": "203.0.113.1:7002"}')
    known = KnownReplicas(path, Quarantine(tmp_path / "foreign"))
    seats = {}
    for number in range(200):
        seats[f"r{number}"] = Seat("203.0.113.9", is_connected, time.monotonic_ns())
        known.note(f"r{number}", "203.0.113.9:1", seats)
    await known.stop()
    assert load_replicas(path)["real"] == "203.0.113.1:7002"
    assert len(load_replicas(path)) == 64
    assert known.is_written("real")
    assert ("counts for no quorum" in caplog.text) is is_connected


@on_loop
@pytest.mark.parametrize("claimed", ["203.0.113.1:7002", "h{}:7002"])
async def test_names_of_one_address_stay_one_address_over_a_restart(
    tmp_path: Path, claimed: str
) -> None:
    """Cites K10: whatever address they claim, another machine's too, or one each."""
    path = tmp_path / "replicas.json"
    before = KnownReplicas(path, Quarantine(tmp_path / "foreign"))
    seats = {"real": Seat("203.0.113.1", is_connected=True, heard_ns=1)}
    before.note("real", "203.0.113.1:7002", seats)
    for number in range(63):
        seats[f"r{number}"] = Seat("203.0.113.9", is_connected=True, heard_ns=2)
        before.note(f"r{number}", claimed.format(number), seats)
    await before.stop()
    after = KnownReplicas(path, Quarantine(tmp_path / "foreign"))
    seat = Seat("203.0.113.2", is_connected=True, heard_ns=time.monotonic_ns())
    after.note("other", "203.0.113.2:7002", {"other": seat})
    await after.stop()
    assert load_replicas(path).keys() >= {"real", "other"}


@on_loop
async def test_known_replicas_have_room_for_another_address(tmp_path: Path) -> None:
    """Cites K10: a member that took all places gives one up for another machine's replica."""
    known = KnownReplicas(tmp_path / "replicas.json", Quarantine(tmp_path / "foreign"))
    seats = {
        f"r{number}": Seat("203.0.113.9", is_connected=True, heard_ns=1) for number in range(64)
    }
    for name in seats:
        known.note(name, "", seats)
    seats["real"] = Seat("203.0.113.1", is_connected=True, heard_ns=2)
    known.note("real", "", seats)
    await known.stop()
    assert known.is_written("real")
    assert not known.is_written("r0")
