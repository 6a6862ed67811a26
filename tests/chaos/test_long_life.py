"""An hour's churn in a minute or two: neither files nor memory nor descriptors grow.

Keys are overwritten, deleted, written to expire and scanned, snapshots are taken, readers and HTTP
workers are killed inside their reads. A short form runs with every test run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.client import Client
from synap.store.environment import Environment
from synap.store.generations import folder_in_use
from tests.chaos import length
from tests.conftest import StartNode
from tests.support import HOST, Node, children_of, descendants_of, eventually, is_alive

SECONDS = 90 if length.IS_LONG else 9
# Between two uses, beside the other tests longer: what a snapshot holds on to is what is written
# meanwhile, and on a machine that is busy it takes several times as long.
PAUSE_SECONDS = 0.01 if length.IS_LONG else 0.03
# The live data, in keys of about 600 bytes, that the churn goes over at random.
KEYS = 30_000
BATCH = 100
MIB = 1024 * 1024
# Beyond twice the live data: what is written while the longest reader reads, which is a snapshot
# or, for a second, a dead one. Each of some thousand writes a second changes a page.
FILE_SLACK_BYTES = 24 * MIB
# The log is kept back to the second newest snapshot; beyond its limit, what is written meanwhile.
LOG_SLACK_BYTES = 48 * MIB
# Of all processes together, between the end of the warm-up and the end.
MEMORY_GROWTH_BYTES = 24 * MIB
WARM_UP = 0.4
SETTINGS = {
    "persistence__snapshot__operation_threshold": 20_000,
    "persistence__snapshot__min_interval_secs": 2,
    "persistence__snapshot__max_snapshots": 2,
    "persistence__wal__max_size_mb": 16,
}
HOLDER = """
import sys
from pathlib import Path
from synap.store.environment import Environment
from synap.store.generations import folder_in_use
with Environment(folder_in_use(Path(sys.argv[1]))).reading():
    print("holding", flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.timeout(60 + 2 * SECONDS)


@dataclass(frozen=True)
class Sample:
    """What a node takes up at one moment.

    Attributes:
        live_bytes: Pages of the store with data in them.
        file_bytes: The store's file.
        wal_bytes: The log's files.
        memory_bytes: Memory of its lasting processes that is theirs alone.
        descriptors: Of the same processes.
    """

    live_bytes: int
    file_bytes: int
    wal_bytes: int
    memory_bytes: int
    descriptors: int


class Churn:
    """Threads that use a node all the time, until stopped.

    Attributes:
        done: How often each kind of use was made.
        failures: What went wrong in a thread.
    """

    def __init__(self, node: Node) -> None:
        self.done: dict[str, int] = {}
        self.failures: list[str] = []
        self._node = node
        self._should_stop = threading.Event()
        uses = (self.overwrite, self.delete, self.expire, self.scan, self.die_reading)
        self._threads = [threading.Thread(target=self._repeat, args=(use,)) for use in uses]

    def __enter__(self) -> Churn:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._should_stop.set()
        for thread in self._threads:
            thread.join()

    def overwrite(self, client: Client) -> None:
        """Write keys anew, with values of other lengths."""
        pairs = [{"key": key, "value": "v" * random.randrange(200, 1000)} for key in some_keys()]
        client.post("/kv/mset", {"pairs": pairs})
        self._should_stop.wait(2 * PAUSE_SECONDS)

    def delete(self, client: Client) -> None:
        """Remove keys, fewer than are written."""
        client.post("/kv/mdel", {"keys": some_keys()[:10]})
        self._should_stop.wait(PAUSE_SECONDS)

    def expire(self, client: Client) -> None:
        """Write keys that are gone soon."""
        for key in some_keys()[:10]:
            expiry = {"type": "milliseconds", "value": random.randrange(50, 1500)}
            client.post("/kv/set", {"key": key, "value": "short", "expiry": expiry})
        self._should_stop.wait(PAUSE_SECONDS)

    def scan(self, client: Client) -> None:
        """Go through all keys, page by page."""
        cursor = ""
        while cursor is not None and not self._should_stop.is_set():
            page = client.get(f"/kv/scan?limit=1000{f'&cursor={cursor}' if cursor else ''}")
            cursor = page["cursor"]
        self._should_stop.wait(0.1)

    def die_reading(self, client: Client) -> None:
        """Kill a reader inside its transaction, and now and then an HTTP worker."""
        command = [sys.executable, "-c", HOLDER, str(self._node.data_dir / "store")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        if self.done.get("die_reading", 0) % 3 == 2:
            os.kill(random.choice(children_of(self._node.http_pid())), signal.SIGKILL)
        self._should_stop.wait(0.5)

    def _repeat(self, use: Callable[[Client], None]) -> None:
        name = use.__name__
        with Client(f"http://{HOST}:{self._node.port}") as client:
            while not self._should_stop.is_set():
                try:
                    # The connection goes with a worker that is killed.
                    with suppress(OSError):
                        use(client)
                    self.done[name] = self.done.get(name, 0) + 1
                except Exception as error:
                    self.failures.append(f"{name}: {error!r}")
                    return


def some_keys() -> list[str]:
    return [f"key {random.randrange(KEYS)}" for _ in range(BATCH)]


def take_sample(node: Node) -> Sample:
    lasting = [node.pid, node.owner_pid(), node.http_pid()]
    with Client(f"http://{HOST}:{node.port}") as client:
        stats = client.get("/stats")
    return Sample(
        live_bytes=stats["kv"]["total_memory_bytes"],
        file_bytes=(folder_in_use(node.data_dir / "store") / "data.mdb").stat().st_blocks * 512,
        wal_bytes=stats["persistence"]["wal_bytes"],
        memory_bytes=sum(map(own_memory_bytes, lasting)),
        descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in lasting),
    )


def own_memory_bytes(pid: int) -> int:
    """Return the memory of a process that no file is behind."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    pytest.skip("this kernel does not tell what memory is a process's own")


def readers_of(node: Node) -> list[int]:
    """Return the processes that have a slot in LMDB's table of readers."""
    environment = Environment(folder_in_use(node.data_dir / "store"))
    try:
        lines = environment.lmdb.readers().splitlines()[1:]
    finally:
        environment.lmdb.close()
    return [int(line.split()[0]) for line in lines]


def test_churn_leaves_files_memory_and_descriptors_as_they_are(start_node: StartNode) -> None:
    node = start_node(server__workers=2, **SETTINGS)
    with Client(f"http://{HOST}:{node.port}") as client:
        for start in range(0, KEYS, 1000):
            pairs = [{"key": f"key {start + n}", "value": "v" * 600} for n in range(1000)]
            client.post("/kv/mset", {"pairs": pairs})
    samples: list[Sample] = []
    began = time.monotonic()
    with Churn(node) as churn:
        while time.monotonic() - began < SECONDS:
            with suppress(OSError):
                samples.append(take_sample(node))
            time.sleep(0.25)
    assert churn.failures == []
    steady = samples[int(len(samples) * WARM_UP) :]
    report(node, churn, steady)
    for sample in steady:
        assert sample.file_bytes <= 2 * sample.live_bytes + FILE_SLACK_BYTES
        assert sample.wal_bytes <= 16 * MIB + LOG_SLACK_BYTES
    assert tail(steady, "memory_bytes") - head(steady, "memory_bytes") < MEMORY_GROWTH_BYTES
    assert tail(steady, "descriptors") <= head(steady, "descriptors") + 2
    eventually(lambda: all(map(is_alive, readers_of(node))))
    before = node.request("GET", "/digest").json()
    node.kill()
    node.start()
    assert node.request("GET", "/digest").json()["keys"] <= before["keys"]
    assert not [pid for pid in descendants_of(node.pid) if not is_alive(pid)]


def head(samples: list[Sample], name: str) -> int:
    """Return the middle value of the first quarter."""
    return middle([getattr(sample, name) for sample in samples[: max(1, len(samples) // 4)]])


def tail(samples: list[Sample], name: str) -> int:
    """Return the middle value of the last quarter."""
    return middle([getattr(sample, name) for sample in samples[-max(1, len(samples) // 4) :]])


def middle(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


def report(node: Node, churn: Churn, steady: list[Sample]) -> None:
    """Print what was done; pytest shows it with -s."""
    ratio = max(sample.file_bytes / sample.live_bytes for sample in steady)
    offset = node.request("GET", "/digest").json()["offset"]
    uses = ", ".join(f"{name} {count}" for name, count in sorted(churn.done.items()))
    print(
        f"\n{SECONDS} s of churn, {offset} entries ({uses}): live data "
        f"{steady[-1].live_bytes / MIB:.1f} MiB, file {steady[-1].file_bytes / MIB:.1f} MiB, at "
        f"most {ratio:.2f} times the live data; log at most "
        f"{max(sample.wal_bytes for sample in steady) / MIB:.1f} MiB; memory "
        f"{head(steady, 'memory_bytes') / MIB:.1f} to {tail(steady, 'memory_bytes') / MIB:.1f} "
        f"MiB, descriptors {head(steady, 'descriptors')} to {tail(steady, 'descriptors')}"
    )
