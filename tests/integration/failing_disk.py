"""Disks whose k-th changing call fails: for tests that try every k."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count

import pytest

from tests.chaos.length import IS_LONG
from tests.integration.kth_call import FOR_GOOD, ONCE, KthCallFails

_KINDS = [(error, length) for error in (errno.ENOSPC, errno.EIO) for length in (ONCE, FOR_GOOD)]

every_failure = pytest.mark.parametrize(
    ("error", "length"),
    _KINDS,
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value,
)


def every_disk(error: int, length: str, at_least: int) -> Iterator[tuple[int, KthCallFails]]:
    """Yield k and a disk whose k-th call fails, for k up to the last call that is made.

    With `make chaos` that is each k for each kind of failure; else the four kinds share them.

    Args:
        at_least: The work must make so many calls, else the test tries nothing.
    """
    first, step = (1, 1) if IS_LONG else (1 + _KINDS.index((error, length)), len(_KINDS))
    for number in count(first, step):
        disk = KthCallFails(number, error, length)
        yield number, disk
        if not disk.has_failed:
            assert number > at_least, f"only {number - 1} calls were tried"
            return
