"""Small files that are there whole or not at all, also after a power cut.

Write to a temporary name, fsync, rename, fsync the folder. After "All File Systems Are Not Created
Equal" (OSDI 2014): a rename alone is not durable.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` by a file that holds `content`, atomically and durably."""
    temporary = path.with_name(f"{path.name}.tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    os.replace(temporary, path)
    sync_directory(path.parent)


def write_all(file: int, content: bytes) -> None:
    """Write `content` to an open file, in as many calls as it takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
