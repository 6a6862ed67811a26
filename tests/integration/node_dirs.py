"""Data directories for the tests of backup, restore and repair, written by a node's own log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from synap.backup.archive import take_backup
from synap.config.keys import Config
from synap.config.loading import load_config
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from tests.integration.wal_logs import no_failure

START_MS = 1_700_000_000_000


def node_config(folder: Path) -> Config:
    """Return the configuration of the node in `folder`; its segments have 1 MiB."""
    settings = {"data_dir": str(folder), "persistence.wal.max_size_mb": 16}
    return load_config(None, settings, environ={})


@contextmanager
def open_node(folder: Path, *, clean: bool = True) -> Iterator[DataDir]:
    """Open the log of the node in `folder` as its owner does."""
    config = node_config(folder)
    paths = NodePaths.of(config)
    paths.create()
    data_dir = DataDir.open(config, paths, Node.load_or_create(config, paths), no_failure)
    try:
        yield data_dir
    finally:
        data_dir.close(clean=clean)


def write(
    data_dir: DataDir, keys: Sequence[str], value: bytes = b"value", time_ms: int = START_MS
) -> int:
    """Write keys as one frame; return its last offset."""
    transaction = data_dir.store.begin()
    for key in keys:
        transaction.put(key.encode(), value, 0)
    return data_dir.commit(transaction, time_ms).last_offset


def digest_of(folder: Path) -> tuple[int, int, str]:
    """Open the node in `folder` and return offset, keys and digest."""
    with open_node(folder) as data_dir:
        return data_dir.store.reader().digest()


def save_backup(data_dir: DataDir, folder: Path, path: Path) -> Path:
    """Take a backup of an open node in `folder` into the file `path`."""
    backup = take_backup(
        data_dir.store.reader(), folder / "snapshots", folder / "node.json", "name", START_MS, None
    )
    try:
        path.write_bytes(b"".join(iter(backup.next_chunk, b"")))
    finally:
        backup.close()
    return path
