"""The k-th file call of a full resync's switch fails, for every k: the old state or the new one."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from synap.disk import DISK, Files
from synap.errors import DiskFull, SynapError
from synap.node.data_dir import DataDir, Prepared
from synap.node.identity import Node, NodeIdentity, read_identity, write_identity
from synap.node.paths import NodePaths
from synap.position import Lineage, Reign
from synap.replication.following.installer import Installer, manifest_of
from synap.replication.rules.messages import SnapshotOffer
from synap.replication.rules.plan import Replace
from synap.replication.rules.resync import Install, Job, Receive, Write
from synap.snapshot.folder import Manifest, ReceivedImage, snapshot_path, snapshots
from synap.snapshot.image import put_in_place, verify_snapshot, write_snapshot
from tests.integration.failing_disk import every_disk, every_failure
from tests.integration.kth_call import ONCE, KthCallFails
from tests.integration.node_dirs import START_MS, digest_of, node_config, open_node, write
from tests.integration.wal_logs import segments_in

OWN = Reign(1, b"replica's own id", 1)
DEADLINE_SECONDS = 20.0


@dataclass(frozen=True)
class Offered:
    """A master's snapshot.

    Attributes:
        offer: What the master says of it.
        content: The image.
        digest: Of the master's store.
    """

    offer: SnapshotOffer
    content: bytes
    digest: tuple[int, int, str]

    @property
    def jobs(self) -> list[Job]:
        """What the follower has done with it where nothing of the replica's log is the master's."""
        switch = Replace(kept_after=0, keeps_store=True)
        install = Install(self.offer, self.offer.lineage, switch)
        return [Receive(self.offer), Write(0, self.content), install]


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


@pytest.fixture
def offered(tmp_path: Path) -> Offered:
    folder = tmp_path / "master"
    with open_node(folder) as log:
        for number in range(7):
            write(log, [f"master's {number}"])
        reader = log.store.reader()
        manifest = write_snapshot(
            reader, folder / "snapshots", log.lineage, compress=False, now_ms=START_MS
        )
        offer = SnapshotOffer(
            1, log.lineage, manifest.position, manifest.time_ms, START_MS, manifest.keys,
            manifest.bytes, bytes.fromhex(manifest.sha256), "none", 0, manifest.plain_bytes,
        )  # fmt: skip
        content = snapshot_path(folder / "snapshots", 7).read_bytes()
        return Offered(offer, content, reader.digest())


def open_replica(folder: Path, files: Files) -> DataDir:
    """Make a replica with three writes of its own, and a snapshot of two of them."""
    config = node_config(folder)
    paths = NodePaths.of(config)
    paths.create()
    lineage: Lineage = (OWN,)
    write_identity(paths.node_file, NodeIdentity("0123456789abcdef", "replica", lineage))
    node = Node.load_or_create(config, paths, files)
    data_dir = DataDir.open(config, paths, node, pytest.fail, files)
    data_dir.wal.begin_reign(OWN)
    for number in range(3):
        write(data_dir, [f"own {number}"])
        if number == 1:
            reader = data_dir.store.reader()
            write_snapshot(reader, paths.snapshots_dir, lineage, compress=False, now_ms=START_MS)
    return data_dir


class Outcome:
    """What became of a resync: the old state goes on, the new one is in use, or the process ended.

    Attributes:
        are_good: Of each job that was carried out.
        error: What ended the process.
    """

    def __init__(self) -> None:
        self.are_good: list[bool] = []
        self.error: BaseException | None = None
        self._over = asyncio.Event()

    def done(self, job: Job, is_good: bool) -> None:
        self.are_good.append(is_good)
        if isinstance(job, Install):
            self._over.set()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self._over.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self._over.wait(), DEADLINE_SECONDS)


async def install(data_dir: DataDir, folder: Path, jobs: list[Job]) -> Outcome:
    outcome = Outcome()
    installer = Installer(data_dir, folder / "snapshots")
    installer.start(outcome.done, outcome.fail)
    try:
        installer.submit(jobs)
        await outcome.wait()
    finally:
        await installer.stop()
    return outcome


def resync(
    folder: Path, offered: Offered, files: KthCallFails
) -> tuple[set[str], dict[str, bytes]]:
    """Install what is offered on a disk that fails; stop as the process would.

    Returns:
        The digests of the states that may be found afterwards, and the old log's segments.
    """
    files.is_armed = False
    data_dir = open_replica(folder, files)
    prepared = []
    prepare = data_dir.prepare

    def note(image: Path, manifest: Manifest) -> Prepared:
        prepared.append(prepare(image, manifest))
        return prepared[-1]

    data_dir.prepare = note  # type: ignore[method-assign]
    segments = {path.name: path.read_bytes() for path in segments_in(folder / "wal")}
    old = data_dir.store.reader().digest()[2]
    files.is_armed = True
    outcome = asyncio.run(install(data_dir, folder, offered.jobs))
    files.is_armed = False
    if outcome.error is not None:
        # Only a start tells which it is; nothing was acknowledged since.
        found = {old, offered.digest[2]}
        for each in prepared:
            each.store.close(clean=False)
    elif all(outcome.are_good):
        found = {offered.digest[2]}
    else:
        # The old state goes on, and takes what comes.
        write(data_dir, ["after"])
        found = {data_dir.store.reader().digest()[2]}
    data_dir.close(clean=False)
    return found, segments


def check_old_state_is_aside(folder: Path, segments: dict[str, bytes]) -> None:
    """Check that all that only the replica held is in `diverged`, whole."""
    aside = folder / "diverged"
    for name, content in segments.items():
        copies = [path.read_bytes() for path in aside.glob(f"*/wal/{name}")]
        assert copies
        assert set(copies) == {content}
    assert list(aside.glob("*/store/*/data.mdb"))
    assert list(aside.glob("*/snapshots/snapshot_*2.bin"))


@every_failure
def test_resync_with_the_kth_call_failing_leaves_the_old_state_or_the_new_one(
    offered: Offered, tmp_path: Path, error: int, length: str
) -> None:
    for number, files in every_disk(error, length, at_least=40):
        folder = tmp_path / f"try {number}"
        folder.mkdir()
        found, segments = resync(folder, offered, files)
        digest = digest_of(folder)
        assert digest[2] in found, files.failed
        assert not (folder / "resync.json").exists()
        assert not list(folder.rglob("*.tmp*")), files.failed
        for path, _ in snapshots(folder / "snapshots"):
            verify_snapshot(path)
        if digest == offered.digest:
            check_old_state_is_aside(folder, segments)


@every_failure
def test_start_that_finishes_a_switch_with_the_kth_call_failing_can_be_repeated(
    offered: Offered, tmp_path: Path, error: int, length: str
) -> None:
    for number, files in every_disk(error, length, at_least=20):
        folder = tmp_path / f"try {number}"
        folder.mkdir()
        segments = begin_only(folder, offered)
        config = node_config(folder)
        paths = NodePaths.of(config)
        try:
            node = Node.load_or_create(config, paths, files)
            data_dir = DataDir.open(config, paths, node, pytest.fail, files)
        except (SynapError, OSError):
            assert files.has_failed
        else:
            files.is_armed = False
            data_dir.close(clean=False)
        assert digest_of(folder) == offered.digest, files.failed
        check_old_state_is_aside(folder, segments)
        assert not list(folder.rglob("*.tmp*")), files.failed


def begin_only(folder: Path, offered: Offered) -> dict[str, bytes]:
    """Leave a replica as one that was killed behind the decision for the new state."""
    data_dir = open_replica(folder, DISK)
    segments = {path.name: path.read_bytes() for path in segments_in(folder / "wal")}
    image = ReceivedImage(folder / "snapshots", offered.offer.size)
    image.write(0, offered.content)
    image.sync()
    manifest = manifest_of(offered.offer)
    prepared = data_dir.prepare(image.path, manifest)
    put_in_place(image.path, manifest)
    image.close()
    data_dir.begin_switch(prepared, offered.offer.lineage, 0, keeps_store=True)
    prepared.store.close(clean=False)
    data_dir.close(clean=False)
    return segments


@every_failure
def test_identity_with_the_kth_call_failing_is_what_the_file_says(
    tmp_path: Path, error: int, length: str
) -> None:
    for number, files in every_disk(error, length, at_least=4):
        path = tmp_path / f"{number}.json"
        before = NodeIdentity("0123456789abcdef", "replica", (OWN,))
        write_identity(path, before)
        node = Node(path, before, files)
        with suppress(DiskFull, OSError):
            node.promote(3, None)
        held = read_identity(path)
        assert (held.role, len(held.lineage)) in (("replica", 1), ("master", 2)), files.failed
        if length == ONCE:
            assert held == node.identity, files.failed
            assert os.listdir(tmp_path) == [path.name]
        path.unlink()
