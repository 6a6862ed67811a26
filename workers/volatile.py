"""A node with `persistence.enabled: false`: its files lie in a temporary folder and go with it.

The folder follows from `data_dir`, so that two such nodes keep apart, a second one on the same
`data_dir` is refused like any other, and what a killed node left behind is removed by the next.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from synap.config.keys import Config
from synap.errors import DataDirUnusable
from synap.node.paths import check_private


def volatile_settings(config: Config) -> dict[str, Any]:
    """Return the settings by dotted key that move the node's files into its temporary folder.

    Nothing there outlives the node, so nothing is ever forced to the disk.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(config.data_dir))).hexdigest()[:12]
    folder = Path(tempfile.gettempdir(), f"synap-volatile-{os.getuid()}", name)
    return {"data_dir": str(folder), "persistence.wal.fsync_mode": "never"}


def create_private(folder: Path) -> None:
    """Create the node's temporary folder, in one where nobody else can put another in its place.

    Raises:
        DataDirUnusable: it can't be, or is somebody else's.
    """
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        check_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise DataDirUnusable(f"can't create {error.filename}: {error.strerror}") from error
    check_private(folder)


def clear(folder: Path, keep: Path) -> None:
    """Remove everything in `folder` but the lock at `keep`, which the caller holds.

    Raises:
        DataDirUnusable: something can't be removed.
    """
    try:
        for entry in folder.iterdir():
            if entry == keep:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise DataDirUnusable(f"{error.filename} can't be removed: {error.strerror}") from error
