"""The machine in general terms: nothing that names it or a place on it."""

from __future__ import annotations

import os
import platform
import re
import statistics
import tempfile
import time
from pathlib import Path

_SYNCS = 200
_BLOCK_BYTES = 4096
_GIB = 1024**3
# By the last minute's load, before anything is started: more makes the figures doubtful.
_QUIET_LOAD = 0.5


def describe(folder: Path) -> str:
    """Return a phrase on cores, memory, the disk that holds `folder`, and who else is busy."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    return (
        f"{cores} cores ({platform.machine()}), {memory:.0f} GiB of memory, {disk_kind(folder)} "
        f"where a write and fdatasync of 4 KiB take {sync_ms(folder):.2f} ms in the median, "
        f"Linux, Python {platform.python_version()}{_company()}"
    )


def disk_kind(folder: Path) -> str:
    """Return the kind of disk and file system that hold `folder`."""
    number = folder.stat().st_dev
    file_system = _file_system(number)
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        return file_system
    name = device.resolve().name
    if re.match(r"x?vd", name):
        kind = "a virtual disk"
    elif name.startswith("nvme"):
        kind = "an NVMe disk"
    else:
        kind = "a hard disk" if _is_rotational(device.resolve()) else "an SSD"
    return f"{kind} with {file_system}"


def sync_ms(folder: Path) -> float:
    """Return the median time of a small append with its fdatasync, in ms."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(bytes(_BLOCK_BYTES))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _company() -> str:
    load = os.getloadavg()[0]
    return f", busy with other work (load {load:.1f})" if load > _QUIET_LOAD else ""


def _file_system(number: int) -> str:
    device = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == device:
            return after.split()[0]
    return "an unknown file system"


def _is_rotational(device: Path) -> bool:
    # A partition has no queue of its own; the disk is the folder above.
    for folder in (device, device.parent):
        flag = folder / "queue" / "rotational"
        if flag.exists():
            return flag.read_text(encoding="ascii").strip() == "1"
    return False
