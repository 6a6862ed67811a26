"""Damaged records on a real log and store, mended by a real process from snapshot and log."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from synap.config.loading import load_config
from synap.errors import StoreDamaged
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.owner.mender import CopySource
from synap.owner.store_care import StoreCare
from synap.request_errors import RecordCorrupt
from synap.shared.series import RECORDS_DAMAGED, RECORDS_MENDED, Name
from synap.snapshot.image import write_snapshot
from synap.store.scrubbing import DEADLINES, Suspect
from tests.integration.linked_nodes import eventually, on_loop

COMMAND = (sys.executable, "-P", "-m", "workers.verify")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.getcwd()}
KEYS = [b"key %02d" % number for number in range(30)]
FAR_MS = 2**42


class Alone:
    """The engine of a node that has nobody to ask."""

    can_renew = False

    def copy_sources(self, own: CopySource) -> Sequence[CopySource]:
        return (own,)

    def renew_store(self, why: str) -> bool:
        return False

    async def compare(self, share: float) -> list[Suspect]:
        return []

    def doubt(self, space: int, key: bytes) -> None:
        raise AssertionError("nobody else has records")


class Bench:
    """A node's data directory, and what keeps its store sound."""

    def __init__(self, folder: Path) -> None:
        config = load_config(None, {"data_dir": str(folder / "data")}, environ={})
        self.paths = NodePaths.of(config)
        self.paths.create()
        self.node = Node.load_or_create(config, self.paths)
        self.data_dir = DataDir.open(config, self.paths, self.node, on_sync_failure=pytest.fail)
        self.counted: Counter[Name] = Counter()
        self.failures: list[BaseException] = []

    def care(self) -> StoreCare:
        return StoreCare(
            self.paths, self.data_dir, 0, COMMAND, ENVIRONMENT,
            fail=self.failures.append, count=self._count,
        )  # fmt: skip

    def set(self, key: bytes, value: bytes, expiry_ms: int = 0) -> None:
        transaction = self.data_dir.store.begin()
        transaction.put(key, value, expiry_ms)
        self.data_dir.commit(transaction, time.time_ns() // 1_000_000)

    def get(self, key: bytes) -> bytes | None:
        record, _ = self.data_dir.store.reader().get(key)
        return None if record is None else record.value

    def snapshot(self) -> None:
        directory = self.paths.snapshots_dir
        reader = self.data_dir.store.reader()
        write_snapshot(reader, directory, self.data_dir.lineage, compress=True, now_ms=1)

    def change(
        self, key: bytes, change: Callable[[bytes], bytes | None], name: str = "keys"
    ) -> None:
        """Change what LMDB holds for a key, past all of Synap."""
        environment = self.data_dir.store._environment
        with environment.lmdb.begin(write=True) as transaction:
            handle = getattr(environment, name)
            raw = change(bytes(transaction.get(key, b"", db=handle)))
            if raw is None:
                transaction.delete(key, db=handle)
            else:
                transaction.put(key, raw, db=handle)

    def flip(self, key: bytes, at: int = -1) -> None:
        def flipped(raw: bytes) -> bytes:
            changed = bytearray(raw)
            changed[at] ^= 0x10
            return bytes(changed)

        self.change(key, flipped)

    def is_damaged(self, key: bytes) -> bool:
        try:
            self.get(key)
        except RecordCorrupt:
            return True
        return False

    def _count(self, name: Name, count: int = 1, /) -> None:
        self.counted[name] += count


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    bench = Bench(tmp_path)
    yield bench
    bench.data_dir.close(clean=False)


async def cared_for(bench: Bench, act: Callable[[StoreCare], Awaitable[None]]) -> None:
    care = bench.care()
    care.start(Alone())
    try:
        await act(care)
    finally:
        await care.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "what was under way has ended"


@on_loop
async def test_thirty_flipped_values_are_found_and_mended_from_snapshot_and_log(
    bench: Bench,
) -> None:
    for key in KEYS:
        bench.set(key, b"old " + key)
    bench.snapshot()
    for key in KEYS[::2]:
        bench.set(key, b"new " + key, FAR_MS)
    for number, key in enumerate(KEYS):
        bench.flip(key, number - 15)

    async def act(care: StoreCare) -> None:
        assert (await care.verifier.verify()).damaged == len(KEYS)
        await eventually(lambda: not any(map(bench.is_damaged, KEYS)))

    await cared_for(bench, act)
    expected = [(b"old " if number % 2 else b"new ") + key for number, key in enumerate(KEYS)]
    assert [bench.get(key) for key in KEYS] == expected
    assert bench.counted[RECORDS_DAMAGED] == bench.counted[RECORDS_MENDED] == len(KEYS)


@on_loop
async def test_record_that_a_reader_reports_is_mended_from_the_log_alone(bench: Bench) -> None:
    bench.set(b"key", b"value")
    bench.flip(b"key")

    async def act(care: StoreCare) -> None:
        care.mender.report_key(b"key")
        await eventually(lambda: not bench.is_damaged(b"key"))
        assert care.facts().damage.records == 0

    await cared_for(bench, act)
    assert bench.get(b"key") == b"value"


@on_loop
async def test_write_over_a_damaged_record_stays(bench: Bench) -> None:
    bench.set(b"key", b"value")
    bench.flip(b"key")

    async def act(care: StoreCare) -> None:
        care.mender.report_key(b"key")
        await asyncio.sleep(0)
        bench.set(b"key", b"written meanwhile")
        await eventually(lambda: not care.mender._suspects)

    await cared_for(bench, act)
    assert bench.get(b"key") == b"written meanwhile"


@on_loop
async def test_record_without_a_sound_copy_stays_damaged_and_is_told(bench: Bench) -> None:
    bench.set(b"key", b"value")
    segment = next(bench.paths.wal_dir.glob("synap-*.wal"))
    content = bytearray(segment.read_bytes())
    at = content.index(b"value")
    content[at] ^= 1
    bench.flip(b"key")

    async def act(care: StoreCare) -> None:
        segment.write_bytes(content)
        care.mender.report_key(b"key")
        await eventually(lambda: care.facts().damage.note)
        assert care.facts().damage.records == 1
        assert care.facts().damage.keys == ("key",)

    await cared_for(bench, act)
    assert bench.is_damaged(b"key")


@on_loop
async def test_flipped_bit_of_a_key_has_the_store_rebuilt(bench: Bench) -> None:
    """The record of the right key is missing: nothing short of all of it makes up for that."""
    bench.set(b"key", b"value")
    raw: list[bytes] = []
    bench.change(b"key", lambda found: raw.append(found))  # type: ignore[func-returns-value]
    bench.change(b"kex", lambda _: raw[0])

    async def act(care: StoreCare) -> None:
        assert (await care.verifier.verify()).damaged == 1
        await eventually(lambda: bench.failures)

    await cared_for(bench, act)
    assert isinstance(bench.failures[0], StoreDamaged)


@on_loop
async def test_stop_amid_a_look_for_a_whole_state_waits_for_its_process(bench: Bench) -> None:
    async def act(care: StoreCare) -> None:
        care._renew("a test says so")
        children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
        await eventually(children.read_text)

    await cared_for(bench, act)
    assert bench.failures == []


@on_loop
async def test_index_of_deadlines_is_put_right_by_the_records(bench: Bench) -> None:
    bench.set(b"expires", b"value", FAR_MS)
    bench.set(b"stays", b"value")
    entry = FAR_MS.to_bytes(8, "big") + b"expires"
    bench.change(entry, lambda _: None, "expiry")
    bench.change((1).to_bytes(8, "big") + b"stays", lambda _: b"", "expiry")

    async def act(care: StoreCare) -> None:
        assert (await care.verifier.verify()).damaged == 2
        await eventually(lambda: Suspect(DEADLINES, entry) not in care.mender._suspects)
        assert (await care.verifier.verify()).damaged == 0

    await cared_for(bench, act)
    assert bench.data_dir.store.due(2, 10) == []
    assert bench.data_dir.store.due(FAR_MS, 10) == [b"expires"]


@on_loop
async def test_snapshot_of_a_damaged_record_is_none(bench: Bench) -> None:
    bench.set(b"key", b"value")
    bench.flip(b"key")
    with pytest.raises(Exception, match="is damaged on this node"):
        bench.snapshot()
    assert list(bench.paths.snapshots_dir.iterdir()) == []
