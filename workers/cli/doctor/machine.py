"""The machine that a node runs on: files that may be open, shared memory, memory, clock, disk."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from synap.config.keys import Config
from synap.errors import DataDirUnusable
from synap.node.paths import NodePaths, check_private
from workers.cli.doctor.findings import Finding, fault, note, warning

_SHARED_MEMORY = Path("/dev/shm")
_GROUP = Path("/sys/fs/cgroup")
# The heartbeats of workers there, and in the run directory what a node of a few workers shares.
_HEARTBEAT_BYTES = 64 * 1024
_RUN_BYTES = 4 * 1024 * 1024
_MIB = 1024 * 1024
# adjtimex(2): the answer of a clock that nothing keeps right.
_TIME_ERROR = 5
_TIMEX_BYTES = 512


def machine_findings(config: Config, paths: NodePaths) -> Iterator[Finding]:
    """Yield what this machine lacks for a node of that configuration."""
    yield from open_file_findings(config, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield from shared_memory_findings(_SHARED_MEMORY)
    yield from run_folder_findings(paths.run_dir.parent)
    yield from memory_findings(config, memory_limit_bytes(_GROUP))
    yield from clock_findings(clock_state())


def open_file_findings(config: Config, hard_limit: int) -> Iterator[Finding]:
    """Yield whether the hard limit on open files is below what a worker needs."""
    needed = config.server.max_connections * 5 // 4 + config.watch.max_watchers + 512
    if hard_limit != resource.RLIM_INFINITY and hard_limit < needed:
        yield warning(
            "this machine", f"allows {hard_limit} open files, and a worker may need {needed}",
            "raise the hard limit (`ulimit -Hn`, LimitNOFILE=), or lower server.max_connections",
        )  # fmt: skip


def shared_memory_findings(folder: Path) -> Iterator[Finding]:
    """Yield whether the workers' heartbeats find room in memory."""
    if not folder.is_dir():
        yield note(
            str(folder), "is not there: the workers' heartbeats lie on a disk",
            "a slow sync may make a worker look dead; mount a tmpfs there",
        )  # fmt: skip
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield fault(str(folder), "can't be written to", "mount it writable, mode 1777")
    elif (free := _free_bytes(folder)) < _HEARTBEAT_BYTES:
        yield fault(str(folder), f"has {free} bytes left", "remove what fills it, or enlarge it")


def run_folder_findings(folder: Path) -> Iterator[Finding]:
    """Yield whether a node can keep its sockets and shared memory in `folder`."""
    if not folder.exists():
        return
    try:
        check_private(folder, "set SYNAP_RUN_DIR to a folder of your own")
    except DataDirUnusable as error:
        yield fault("", str(error), "the same for the node and for its commands")
        return
    if (free := _free_bytes(folder)) < _RUN_BYTES:
        yield warning(
            str(folder), f"has {free} bytes left, and a node needs some {_RUN_BYTES}",
            "remove what fills it, or set SYNAP_RUN_DIR to another folder",
        )  # fmt: skip


def memory_findings(config: Config, limit_bytes: int | None) -> Iterator[Finding]:
    """Yield whether the node's own limit lies above that of its control group."""
    own_bytes = config.kv_store.max_memory_mb * _MIB
    if limit_bytes is not None and own_bytes and own_bytes >= limit_bytes:
        yield warning(
            "kv_store.max_memory_mb",
            f"is {config.kv_store.max_memory_mb}, and this control group gets "
            f"{limit_bytes // _MIB} MiB",
            "the kernel ends processes before the limit counts: lower the one or raise the other",
        )  # fmt: skip


def memory_limit_bytes(root: Path) -> int | None:
    """Return what this process's control group may use; None without a bound."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((root / name).read_text("ascii"))
        except (OSError, ValueError):
            continue
    return None


def clock_state() -> int | None:
    """Return what adjtimex(2) says of the clock; None where it says nothing."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if call is None:
        return None
    state = int(call(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return state if state >= 0 else None


def clock_findings(state: int | None) -> Iterator[Finding]:
    """Yield whether nothing keeps this machine's clock right."""
    if state == _TIME_ERROR:
        yield note(
            "this machine's clock", "is kept right by nothing that the kernel knows of",
            "run an NTP client; the host's, where this is a container or a guest",
        )  # fmt: skip


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
