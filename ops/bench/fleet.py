"""The systems that groups of rows share, so that each is started and filled once in a run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Self

from ops.bench.errors import MeasurementFailed
from ops.bench.etcd import EtcdGateway
from ops.bench.systems import RedisBehindWebdis, SynapNode, System
from ops.processes import StartFailed

Maker = Callable[[Path], System]
"""Makes a system, which is not started, on an empty folder."""


class Member:
    """A system, and what was done to it so far.

    Attributes:
        system: What is driven.
        filled_keys: So many keys, from the first one on, were written.
        checked: The operations whose answers were looked at.
    """

    def __init__(self, system: System, stack: ExitStack) -> None:
        """
        Args:
            stack: Stops it.
        """
        self.system = system
        self.filled_keys = 0
        self.checked: set[str] = set()
        self._stack = stack
        self._is_started = False
        self._fault = ""

    def start(self) -> None:
        """Start it, unless it runs.

        Raises:
            MeasurementFailed: a program is missing, or it does not start.
        """
        if self._fault:
            raise MeasurementFailed(self._fault)
        if self._is_started:
            return
        try:
            self._stack.enter_context(self.system)
        except (MeasurementFailed, StartFailed, OSError) as error:
            self._fault = str(error)
            raise MeasurementFailed(self._fault) from error
        self._is_started = True


class Fleet:
    """The systems; a context manager that stops them.

    Args:
        folder: Where each gets a folder for its data; on the disk to measure.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._members: dict[Maker, Member] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, make: Maker) -> Member:
        """Return the one system that `make` makes; it may have to be started yet."""
        if make not in self._members:
            place = self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix="b", dir=self._folder)
            )
            self._members[make] = Member(make(Path(place)), self._stack)
        return self._members[make]


@cache
def synap(fsync_mode: str) -> Maker:
    """Return what makes a Synap node; see `SynapNode`."""
    return lambda folder: SynapNode(folder, fsync_mode)


@cache
def redis(append_fsync: str) -> Maker:
    """Return what makes a Redis behind webdis; see `RedisBehindWebdis`."""
    threads = len(os.sched_getaffinity(0))
    return lambda folder: RedisBehindWebdis(folder, append_fsync, threads)


def etcd(folder: Path) -> System:
    """Make an etcd."""
    return EtcdGateway(folder)
