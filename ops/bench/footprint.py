"""Bytes on disk and in memory for many small values, beside redis-server with the same data."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ops.bench.cpu import process_tree
from ops.bench.data import FAULTS, check_samples, fill, pairs_of
from ops.bench.errors import MeasurementFailed
from ops.bench.programs import require_program
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import START_DEADLINE_SECONDS, SynapNode
from ops.processes import ServerProcess

TITLE = "Bytes on disk and in memory"
HEADER = ("", "Synap", "redis-server", "ratio")
_SETTINGS = {"persistence.snapshot.enabled": False}
_MIB = 1024 * 1024
_DEADLINE_SECONDS = 120


def run(settings: Settings) -> Section:
    """Fill both, and look at what they take up."""
    rows: list[tuple[str, ...]] = []
    faults = []
    with tempfile.TemporaryDirectory(prefix="b", dir=settings.folder) as name:
        try:
            ours = _synap(Path(name, "synap"), settings.stored)
            theirs = _redis(Path(name, "redis"), settings.stored)
            rows = [
                (figure, f"{mine:,.0f}", f"{other:,.0f}", f"{mine / other:.2f}")
                for figure, mine, other in zip(_FIGURES, ours, theirs, strict=True)
            ]
        except FAULTS as error:
            faults.append(str(error))
    text = (
        f"{settings.stored:,} keys of {len('key:000000')} bytes with values of 64 bytes, in MiB. "
        "Synap has its log, its live store and one snapshot on disk, Redis its append-only file "
        "and one dump. Memory is the proportional set size (PSS) of all of a system's processes, "
        "in which a page that several of them map counts once. Of Synap's, the live store's pages "
        "are page cache, which the kernel takes back where it needs memory; what is not is in "
        "the last line."
    )
    return Section(TITLE, text, HEADER, rows, faults)


_FIGURES = ("log", "store and snapshots", "memory (PSS)", "memory without files behind it")


def _synap(folder: Path, keys: int) -> tuple[float, ...]:
    folder.mkdir()
    with SynapNode(folder, "periodic", _SETTINGS) as node:
        fill(node, 0, keys)
        node.snapshot()
        check_samples(node, keys)
        log, *rest = (_disk_mib(node.data_dir / name) for name in ("wal", "store", "snapshots"))
        return log, sum(rest), *_memory_mib(node.pids())


def _redis(folder: Path, keys: int) -> tuple[float, ...]:
    folder.mkdir()
    path = folder / "redis.sock"
    command = [
        require_program("redis-server"), "--port", "0", "--unixsocket", str(path),
        "--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
        "--auto-aof-rewrite-percentage", "0",
    ]  # fmt: skip
    with ServerProcess(command, folder / "redis.log") as server:
        server.wait_until(path.exists, "redis-server", START_DEADLINE_SECONDS)
        with _connected(path) as redis:
            for pairs in pairs_of(0, keys):
                redis.call("MSET", *(word for pair in pairs for word in pair))
            redis.call("BGSAVE")
            deadline = time.monotonic() + _DEADLINE_SECONDS
            while not (folder / "dump.rdb").exists():
                if time.monotonic() > deadline:
                    raise MeasurementFailed("redis-server wrote no dump")
                time.sleep(0.1)
            if redis.call("DBSIZE") != f":{keys}":
                raise MeasurementFailed("redis-server does not hold what was written")
        log = sum(map(_disk_mib, folder.glob("appendonly*")))
        memory = _memory_mib(process_tree(server.pid))
        return log, _disk_mib(folder / "dump.rdb"), *memory


class _Redis:
    """A connection to redis-server that has one command under way."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile("rb")

    def call(self, *words: str) -> str:
        """Send a command and return the first line of the answer.

        Raises:
            MeasurementFailed: it is an error.
        """
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        self._connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        answer = self._answers.readline().decode().strip()
        if not answer or answer.startswith("-"):
            raise MeasurementFailed(f"redis-server answered {answer!r} to {words[0]}")
        return answer


@contextmanager
def _connected(path: Path) -> Iterator[_Redis]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_DEADLINE_SECONDS)
        connection.connect(str(path))
        yield _Redis(connection)


def _disk_mib(path: Path) -> float:
    """Return what the blocks of a file, or of all files below a folder, take up."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if not p.is_symlink()]
    return sum(file.stat().st_blocks * 512 for file in files) / _MIB


def _memory_mib(pids: Sequence[int]) -> tuple[float, float]:
    """Return the PSS of processes, in all and without what files are behind."""
    totals = {"Pss": 0, "Pss_Anon": 0}
    for pid in pids:
        # One that wrote a snapshot may have ended by now.
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                name, _, rest = line.partition(":")
                if name in totals:
                    totals[name] += int(rest.split()[0])
    if not all(totals.values()):
        raise MeasurementFailed("the kernel does not tell what memory a process has of its own")
    return totals["Pss"] / 1024, totals["Pss_Anon"] / 1024
