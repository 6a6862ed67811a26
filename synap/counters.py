"""Counts of operations, summed over all HTTP workers without a lock or a message.

A mapped file holds a row of 64-bit numbers for each worker. A worker claims a free row by a POSIX
record lock, which the kernel drops when the process ends however it ends, and goes on counting
where the row's last holder stopped: the sums never fall while the node runs.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import mmap
import os
from pathlib import Path

from synap.errors import DataDirUnusable, SynapError
from synap.files import reserve

# More rows than Gunicorn has workers, with those of a reload that still drain.
_ROWS = 1024
_COLUMNS = 16
_ROW_BYTES = _COLUMNS * 8


class Counter(enum.IntEnum):
    """A column; its number is its place in the row."""

    GETS = 0
    SETS = 1
    DELS = 2
    HITS = 3
    MISSES = 4


class Counters:
    """One process's row, and the sums of all rows.

    A process makes one of these and keeps it: closing any descriptor of the file would drop the
    record lock.

    Attributes:
        row: This process's numbers, by `Counter`. Add to them in place.
    """

    def __init__(self, path: Path) -> None:
        """Map the file and claim a row.

        Raises:
            SynapError: every row is taken.
            DataDirUnusable: the run directory has no room for the file.
        """
        self._file = _open(path)
        self._map = mmap.mmap(self._file, _ROWS * _ROW_BYTES)
        self._cells = memoryview(self._map).cast("Q")
        try:
            row = self._claim()
        except SynapError:
            self.close()
            raise
        self.row = self._cells[row * _COLUMNS : (row + 1) * _COLUMNS]

    def total(self, counter: Counter) -> int:
        """Return the sum of one column over all rows, those of ended workers included."""
        return sum(self._cells[counter::_COLUMNS])

    def close(self) -> None:
        """Give the row back; its numbers stay in the sums."""
        if hasattr(self, "row"):
            self.row.release()
        self._cells.release()
        self._map.close()
        os.close(self._file)

    def _claim(self) -> int:
        for row in range(_ROWS):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row * _ROW_BYTES)
                return row
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
        raise SynapError(f"all {_ROWS} rows of counters are taken")


def reserve_counters(path: Path) -> None:
    """Make the file of a node's counters where it is missing.

    Raises:
        DataDirUnusable: the run directory has no room for it.
    """
    os.close(_open(path))


def _open(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(file).st_size < _ROWS * _ROW_BYTES:
            os.ftruncate(file, _ROWS * _ROW_BYTES)
        reserve(file, _ROWS * _ROW_BYTES)
    except OSError as error:
        os.close(file)
        raise DataDirUnusable(
            f"{path} can't be made: {error.strerror}; make room or set SYNAP_RUN_DIR"
        ) from error
    return file
