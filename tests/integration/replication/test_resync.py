"""Full resync over real sockets, with real logs, stores and snapshots on both sides."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from synap.disk import Files
from synap.errors import DataDirUnusable, NothingToAccept, ReplicationError
from synap.node import resync_switch
from synap.owner.snapshotter import Snapshotter
from synap.replication.following import installer as installing
from synap.replication.following.installer import Installer
from synap.replication.publishing import snapshot_service
from synap.replication.publishing.publisher import Publisher
from synap.replication.rules.messages import SnapshotChunk
from synap.replication.rules.progress import LinkState
from synap.shared.series import FULL_RESYNCS, PUT_ASIDE
from synap.snapshot.folder import ReceivedImage, snapshots
from tests.integration import linked_nodes
from tests.integration.linked_nodes import (
    DEADLINE_SECONDS,
    OneNode,
    eventually,
    on_loop,
    until_level,
)

MIB = 1024 * 1024
COMMAND = (sys.executable, "-P", "-m", "workers.snapshot")
# Small enough that a few megabytes are many chunks.
SMALL_SEGMENTS = {"persistence__wal__max_size_mb": 1}


class Master(linked_nodes.Master):
    """A master with snapshots, whose log begins where `shrink` says."""

    async def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        self.snapshots = Snapshotter(self.config, self.paths, self.data_dir, COMMAND, environment)
        self.publisher = Publisher(
            self.config, self.data_dir, self.snapshots, count=self.counted.count
        )
        await self.snapshots.start()
        await self.publisher.start(self.hooks)

    async def stop(self) -> None:
        await self.publisher.stop()
        await self.snapshots.stop()

    async def shrink(self) -> None:
        """Take a snapshot and let go of every finished segment that it covers."""
        await self.snapshots.take()
        self.data_dir.wal.retire(self.data_dir.position.offset, 0)
        self.data_dir.wal.remove_retired()
        assert self.data_dir.wal.first_offset > 1


class Replica(linked_nodes.Replica):
    """A replica that can take a snapshot."""

    def installer(self) -> Installer:
        return Installer(self.data_dir, self.paths.snapshots_dir)


class Bench(linked_nodes.Bench):
    master_type = Master
    replica_type = Replica

    async def master(self, name: str = "master", **settings: object) -> Master:
        settings = {"persistence__snapshot__enabled": False, **SMALL_SEGMENTS, **settings}
        return await super().master(name, **settings)

    async def shrunk_master(self, mebibytes: int, **settings: object) -> Master:
        """Return a master whose log no longer holds what was written first."""
        master = await self.master(**settings)
        fill(master, mebibytes)
        await master.shrink()
        return master


@pytest.fixture
def bench(tmp_path: Path, run_dir: Path) -> Bench:
    return Bench(tmp_path)


def fill(master: Master, mebibytes: int, mark: bytes = b"k") -> None:
    """Write values that no compression makes smaller, more than a segment holds."""
    for number in range(mebibytes * 16):
        master.set(b"%s%d" % (mark, number), os.urandom(64 * 1024))


def slow_down(monkeypatch: pytest.MonkeyPatch, bytes_a_chunk: int = 64 * 1024) -> None:
    monkeypatch.setattr(snapshot_service, "CHUNK_BYTES", bytes_a_chunk)


@on_loop
async def test_empty_replica_behind_a_shrunk_log_gets_the_snapshot_and_what_follows(bench):
    """Cites R1, R9 and P5."""
    async with bench:
        master = await bench.shrunk_master(3)
        master.set(b"after", b"the snapshot")
        replica = await bench.replica(master)
        await until_level(master, replica)
        assert (
            replica.data_dir.wal.first_offset == master.snapshots.known()[0][1].position.offset + 1
        )
        assert replica.data_dir.lineage == master.data_dir.lineage
        assert replica.value(b"after") == b"the snapshot"
        assert replica.counted[FULL_RESYNCS] == 1
        await replica.restart()
        await until_level(master, replica)
        assert replica.data_dir.recovery.source == "store"


@on_loop
async def test_master_without_a_snapshot_takes_one_when_asked(bench):
    """Cites R3."""
    async with bench:
        master = await bench.shrunk_master(3)
        for path, _ in snapshots(master.paths.snapshots_dir):
            path.with_suffix(".json").unlink()
            path.unlink()
        await master.restart()
        replica = await bench.replica(master)
        await until_level(master, replica)
        assert len(master.snapshots.known()) == 1


def damage_a_value(master: Master, segment: int) -> None:
    """Change a byte of a value in a finished segment, as a bad disk does."""
    path = sorted(master.paths.wal_dir.glob("synap-*.wal"))[segment]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@on_loop
async def test_log_that_is_damaged_in_the_middle_leads_replicas_to_a_snapshot(bench, caplog):
    """R1: nobody is sent what the disk damaged, nor refused for ever."""
    async with bench:
        master = await bench.master()
        fill(master, 1)
        stood_before = await bench.replica(master, "before")
        await until_level(master, stood_before)
        await stood_before.stop()
        fill(master, 2, b"m")
        assert master.data_dir.wal.segment_count > 2
        damage_a_value(master, 1)
        await stood_before.start()
        empty = await bench.replica(master, "empty")
        await until_level(master, stood_before, empty)
        assert master.data_dir.wal.damage
        assert master.data_dir.wal.first_offset > 1
        told = [each for each in caplog.records if getattr(each, "action", "") == "wal_damaged"]
        assert len(told) == 1
        master.set(b"last", b"value")
        await until_level(master, stood_before, empty)


@on_loop
async def test_replica_that_was_away_too_long_serves_its_old_data_until_the_switch(bench):
    """Cites R8."""
    async with bench:
        master = await bench.master()
        master.set(b"old", b"1")
        replica = await bench.replica(master)
        await until_level(master, replica)
        await replica.stop()
        generation = replica.data_dir.store.generation
        fill(master, 3)
        await master.shrink()
        await replica.start()
        await eventually(lambda: replica.has_state(LinkState.SYNCING))
        assert (replica.value(b"old"), replica.data_dir.store.generation) == (b"1", generation)
        await until_level(master, replica)
        assert replica.data_dir.store.generation > generation
        assert not replica.paths.diverged_dir.exists()
        assert not replica.paths.resync_file.exists()


@on_loop
async def test_broken_link_resumes_from_the_byte_that_is_held(bench, monkeypatch):
    """Cites R5."""
    slow_down(monkeypatch)
    async with bench:
        master = await bench.shrunk_master(4)
        replica = await bench.replica(master)
        fetches = note_fetches(master, monkeypatch)
        await eventually(lambda: held_bytes(replica) > MIB)
        replica.subscriber._link._failure = ReplicationError("cut by the test")
        await until_level(master, replica)
        assert len({fetch.sha256 for fetch in fetches if fetch.sha256}) == 1
        assert fetches[-1].after_byte > MIB


@on_loop
async def test_damaged_chunk_is_refused_and_fetched_again(bench, monkeypatch):
    """Cites R4."""
    slow_down(monkeypatch)
    async with bench:
        master = await bench.shrunk_master(3)
        damaged = []
        send = master.publisher._send_bulk

        def damage(peer, message, bulk):
            if isinstance(message, SnapshotChunk) and message.at_byte > MIB and not damaged:
                damaged.append(message.at_byte)
                bulk = bytes([bulk[0] ^ 1]) + bulk[1:]
            return send(peer, message, bulk)

        master.publisher.snapshots._send = damage
        replica = await bench.replica(master)
        await until_level(master, replica)
        assert len(damaged) == 1
        assert any(s.state is LinkState.DISCONNECTED for s in replica.statuses)


@on_loop
async def test_image_that_is_not_what_was_offered_is_thrown_away(bench, monkeypatch):
    """Cites R6."""
    async with bench:
        master = await bench.shrunk_master(3)
        path, _ = master.snapshots.known()[0]
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        # A master of a version that sends it again and again.
        monkeypatch.setattr(snapshot_service.ImageCheck, "take", lambda *_: None)
        attempts = note_fetches(master, monkeypatch)
        replica = await bench.replica(master)
        await eventually(lambda: len(attempts) > 3)
        assert replica.data_dir.position.offset == 0
        path.write_bytes(sound)
        await until_level(master, replica)
        assert replica.data_dir.store.generation > 1


@on_loop
async def test_image_that_the_masters_disk_damaged_is_taken_anew(bench):
    """R6: the log has not moved since, so that only the damage asks for another one."""
    async with bench:
        master = await bench.shrunk_master(3)
        path, damaged = master.snapshots.known()[0]
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        replica = await bench.replica(master)
        await until_level(master, replica)
        assert damaged not in [manifest for _, manifest in master.snapshots.known()]


@on_loop
async def test_master_that_restarts_in_the_middle_goes_on_with_the_same_snapshot(
    bench, monkeypatch
):
    """Cites R5."""
    slow_down(monkeypatch)
    async with bench:
        master = await bench.shrunk_master(4)
        replica = await bench.replica(master)
        await eventually(lambda: held_bytes(replica) > MIB)
        await master.restart()
        fetches = note_fetches(master, monkeypatch)
        await until_level(master, replica)
        assert fetches[0].after_byte > MIB


@on_loop
async def test_snapshot_that_is_pruned_in_the_middle_is_sent_to_its_end(bench, monkeypatch):
    """Cites R7."""
    slow_down(monkeypatch)
    async with bench:
        master = await bench.shrunk_master(4)
        first = master.snapshots.known()[0][1].position.offset
        replica = await bench.replica(master)
        await eventually(lambda: held_bytes(replica) > MIB)
        for path, _ in snapshots(master.paths.snapshots_dir):
            path.unlink()
        fill(master, 3, b"l")
        master.data_dir.wal.retire(master.data_dir.position.offset, 0)
        master.data_dir.wal.remove_retired()
        assert master.data_dir.wal.first_offset <= first + 1
        await until_level(master, replica)
        assert replica.data_dir.wal.first_offset == first + 1


@on_loop
async def test_eight_empty_replicas_take_turns_at_one_snapshot(bench, monkeypatch):
    """Cites R2."""
    slow_down(monkeypatch)
    async with bench:
        master = await bench.shrunk_master(3)
        replicas = [await bench.replica(master, f"replica{number}") for number in range(8)]
        await until_level(master, *replicas)
        assert master.publisher.snapshots.most_transfers == 2
        assert len(master.snapshots.known()) == 1


@on_loop
async def test_receiver_that_is_stuck_loses_its_transfer(bench, monkeypatch):
    """Cites R10."""
    slow_down(monkeypatch)
    async with bench:
        master = await bench.shrunk_master(3)
        replica = await bench.replica(master)
        service = master.publisher.snapshots
        await eventually(lambda: len(service) == 1)
        # What has moved until now counts at the first look.
        service.expire(2**61, 1)
        service.expire(2**62, 1)
        assert len(service) == 0
        await until_level(master, replica)


@on_loop
async def test_tail_beyond_a_masters_loss_is_kept_aside_and_named(bench, caplog):
    """Cites R11, R13."""
    async with bench:
        master = await bench.master()
        fill(master, 1)
        await master.snapshots.take()
        fill(master, 1, b"m")
        replica = await bench.replica(master)
        await until_level(master, replica)
        await replica.stop()
        copy = bench.folder / "copy"
        await master.stop()
        master.close_log()
        shutil.copytree(master.paths.data_dir, copy, symlinks=True)
        master.open_log()
        await master.start()
        await replica.start()
        for number in range(5):
            master.set(b"lost%d" % number, b"1")
        await until_level(master, replica)
        lost = replica.data_dir.position.offset
        await master.stop()
        master.close_log()
        # The machine crashed: the copy is what its disk had.
        shutil.rmtree(master.paths.data_dir)
        shutil.copytree(copy, master.paths.data_dir, symlinks=True)
        (master.paths.store_dir / "CURRENT").unlink()
        master.open_log()
        await master.start()
        held = master.data_dir.position.offset
        replica.statuses.clear()
        master.set(b"new", b"1")
        await until_level(master, replica)
        # R13: its readers go back behind the entries that went, and no further.
        assert min(status.position.offset for status in replica.statuses) >= held
        kept = list(replica.paths.diverged_dir.glob("*/wal/*.wal"))
        assert kept
        assert any(kept[0].name in record.getMessage() for record in caplog.records)
        assert b"lost4" in kept[-1].read_bytes()
        assert replica.value(b"lost4") is None
        assert replica.data_dir.position.offset < lost
        assert replica.counted[PUT_ASIDE] == lost - held


@on_loop
async def test_foreign_lineage_keeps_its_data_until_the_operator_accepts(bench):
    """Cites R12."""
    async with bench:
        one = await bench.master("one")
        one.set(b"mine", b"1")
        replica = await bench.replica(one)
        await until_level(one, replica)
        with pytest.raises(NothingToAccept):
            replica.subscriber.accept()
        await replica.stop()
        replica.close_log()
        two = await bench.master("two")
        two.set(b"theirs", b"2")
        stranger = await bench.replica(two)
        await eventually(lambda: stranger.has_state(LinkState.DIVERGED))
        await asyncio.sleep(0.3)
        assert stranger.has_state(LinkState.DIVERGED)
        assert (stranger.value(b"mine"), stranger.value(b"theirs")) == (b"1", None)
        stranger.subscriber.accept()
        await until_level(two, stranger)
        aside = stranger.paths.diverged_dir / "0001"
        assert list(aside.glob("wal/*.wal"))
        assert list(aside.glob("store/*/data.mdb"))


@pytest.mark.parametrize("step", ["prepared", "begun", "finished"])
@on_loop
async def test_crash_at_any_step_leaves_the_old_state_or_the_new(bench, monkeypatch, step):
    """Cites R8."""
    async with bench:
        master = await bench.master()
        master.set(b"old", b"1")
        replica = await bench.replica(master)
        await until_level(master, replica)
        await replica.stop()
        old = replica.data_dir.position.offset
        fill(master, 3)
        await master.shrink()
        prepared = note_prepared(monkeypatch)
        crash_at(step, monkeypatch)
        await replica.start()
        with pytest.raises(OSError, match="crash"):
            await asyncio.wait_for(asyncio.shield(replica.running), DEADLINE_SECONDS)
        monkeypatch.undo()
        monkeypatch.setenv("SYNAP_RUN_DIR", str(bench.folder / "run"))
        for each in prepared:
            each.store.close(clean=False)
        replica.close_log()
        replica.open_log()
        new = master.snapshots.known()[0][1].position.offset
        assert replica.data_dir.position.offset == (old if step == "prepared" else new)
        assert not replica.paths.resync_file.exists()
        assert len([p for p in replica.paths.store_dir.iterdir() if p.is_dir()]) == 1
        await replica.start()
        await until_level(master, replica)


@pytest.mark.parametrize("at", range(1, 8))
def test_switch_may_be_repeated_from_any_of_its_steps(tmp_path, monkeypatch, at):
    """Cites R8."""
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    replica = OneNode(tmp_path / "replica", replication__role="standalone")
    replica.open_log()
    transaction = replica.data_dir.store.begin()
    transaction.put(b"key", b"value", 0)
    replica.data_dir.commit(transaction, 1)
    position, lineage = replica.data_dir.position, replica.data_dir.lineage
    node, generation = replica.data_dir.node, replica.data_dir.store.generation
    replica.close_log()
    begun = resync_switch.ResyncSwitch(
        generation, position, lineage, kept_after=0, old_generation=0
    )
    resync_switch.begin(replica.paths, begun)
    assert resync_switch.pending(replica.paths) == begun
    # Four for what is put aside; the log's folder, that of CURRENT, the data directory.
    files = SyncFailsAt(at)
    with pytest.raises((OSError, DataDirUnusable)):
        resync_switch.finish(replica.paths, node, begun, files)
    replica.open_log()
    assert replica.data_dir.position == position
    assert replica.value(b"key") == b"value"
    assert not replica.paths.resync_file.exists()
    replica.close_log()


class SyncFailsAt(Files):
    """Real files whose k-th sync of a folder fails."""

    def __init__(self, number: int) -> None:
        self._left = number

    def sync_directory(self, path: Path) -> None:
        self._left -= 1
        if self._left == 0:
            raise OSError("crash")
        super().sync_directory(path)


def crash_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the installation end the process at a step, as far as a test can."""

    def crash(*_: object) -> None:
        raise OSError("crash")

    if step == "finished":
        monkeypatch.setattr(installing.DataDir, "enter", crash)
    elif step == "begun":
        monkeypatch.setattr(resync_switch, "finish", crash)
    else:
        monkeypatch.setattr(installing, "_REFUSED", ())
        monkeypatch.setattr(resync_switch, "begin", crash)


def note_prepared(monkeypatch: pytest.MonkeyPatch) -> list:
    """Note the stores that are prepared, which this process must close before it opens them."""
    prepared: list = []
    prepare = installing.DataDir.prepare

    def note(*arguments: object) -> object:
        prepared.append(prepare(*arguments))
        return prepared[-1]

    monkeypatch.setattr(installing.DataDir, "prepare", note)
    return prepared


def held_bytes(replica: Replica) -> int:
    return replica.subscriber._follower._resync._held_bytes


def note_fetches(master: Master, monkeypatch: pytest.MonkeyPatch) -> list:
    fetches: list = []
    fetch = master.publisher.snapshots.fetch

    def note(peer, address, message, now_ns):
        fetches.append(message)
        fetch(peer, address, message, now_ns)

    monkeypatch.setattr(master.publisher.snapshots, "fetch", note)
    return fetches


def test_image_without_room_is_refused_at_once_and_leaves_nothing(tmp_path):
    """Cites R6."""
    with pytest.raises(OSError):  # noqa: PT011
        ReceivedImage(tmp_path, 2**62)
    assert list(tmp_path.iterdir()) == []


@on_loop
async def test_heartbeats_go_on_while_a_snapshot_is_unpacked(bench, monkeypatch):
    """Cites R8."""
    prepare = installing.DataDir.prepare

    def slowly(*arguments: object) -> object:
        time.sleep(1)
        return prepare(*arguments)

    monkeypatch.setattr(installing.DataDir, "prepare", slowly)
    async with bench:
        master = await bench.shrunk_master(3)
        replica = await bench.replica(master)
        await until_level(master, replica)
        contacts = [status.last_contact_ns for status in replica.statuses]
        gaps = [after - before for before, after in itertools.pairwise(contacts) if before]
        assert max(gaps) < 800_000_000
        assert not any(status.state is LinkState.DISCONNECTED for status in replica.statuses)


@on_loop
async def test_replica_that_restarts_in_the_middle_begins_anew(bench, monkeypatch):
    """Cites R8."""
    slow_down(monkeypatch)
    async with bench:
        master = await bench.shrunk_master(4)
        replica = await bench.replica(master)
        await eventually(lambda: held_bytes(replica) > MIB)
        await replica.restart()
        assert not replica.data_dir.has_synced
        assert list(replica.paths.snapshots_dir.glob("*.tmp")) == []
        await until_level(master, replica)
        assert replica.data_dir.has_synced
