"""What the kernel tells of processes and of TCP connections; Linux's /proc.

What can't be read, because a process ended meanwhile or belongs to somebody else, is left out.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ESTABLISHED = "01"
# Places in /proc/<pid>/stat after the name, from the process's state on.
_PARENT, _USER_TICKS, _SYSTEM_TICKS, _STARTED_TICKS, _RESIDENT_PAGES = 1, 11, 12, 19, 21


class ProcessFacts(msgspec.Struct, frozen=True):
    """One process.

    Attributes:
        pid: Its id.
        parent_pid: That of the one that started it.
        cpu_seconds: What it has used, in user and kernel.
        resident_bytes: Memory that it has in RAM, shared pages too.
        open_files: Descriptors; None where that is not told.
        age_seconds: Since it was started.
    """

    pid: int
    parent_pid: int
    cpu_seconds: float
    resident_bytes: int
    open_files: int | None
    age_seconds: float


class TcpConnection(msgspec.Struct, frozen=True):
    """A client's connection, from this side.

    Attributes:
        id: The kernel's number of the socket; no other one has it while it is open.
        address: The client's, as host:port.
        pid: The process that has it; 0 where it is not known, or not accepted yet.
        unread_bytes: What the client sent and the process has not read.
        unsent_bytes: What the process sent and the client has not acknowledged.
    """

    id: int
    address: str
    pid: int
    unread_bytes: int
    unsent_bytes: int


def process_facts(pid: int) -> ProcessFacts | None:
    """Return what is known of a process; None where it is gone."""
    folder = _PROC / str(pid)
    try:
        stat = (folder / "stat").read_text().rpartition(")")[2].split()
        uptime_seconds = float((_PROC / "uptime").read_text().split()[0])
    except OSError:
        return None
    return ProcessFacts(
        pid=pid,
        parent_pid=int(stat[_PARENT]),
        cpu_seconds=(int(stat[_USER_TICKS]) + int(stat[_SYSTEM_TICKS])) / _TICKS_PER_SECOND,
        resident_bytes=int(stat[_RESIDENT_PAGES]) * _PAGE_BYTES,
        open_files=_count_files(folder / "fd"),
        age_seconds=uptime_seconds - int(stat[_STARTED_TICKS]) / _TICKS_PER_SECOND,
    )


def children_of(pid: int) -> list[int]:
    """Return the ids of the processes that `pid` started and that run."""
    try:
        return [int(child) for child in (_PROC / f"{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def connections_on(port: int, pids: Iterable[int]) -> list[TcpConnection]:
    """Return the established connections to a local port.

    Args:
        port: The port that was listened on.
        pids: The processes that may have them.
    """
    owners = {inode: pid for pid in pids for inode in _socket_inodes(pid)}
    # By both ends: the kernel tells a socket twice where its table changes while it is read.
    found: dict[tuple[str, str], TcpConnection] = {}
    for name in ("tcp", "tcp6"):
        for fields in _rows(_PROC / "net" / name):
            local, remote, state, queues, inode = (fields[at] for at in (1, 2, 3, 4, 9))
            if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                unsent, _, unread = queues.partition(":")
                number = int(inode)
                found[local, remote] = TcpConnection(
                    id=number,
                    address=_address(remote),
                    pid=owners.get(number, 0),
                    unread_bytes=int(unread, 16),
                    unsent_bytes=int(unsent, 16),
                )
    return list(found.values())


def _count_files(folder: Path) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None


def _socket_inodes(pid: int) -> list[int]:
    folder = _PROC / str(pid) / "fd"
    inodes = []
    try:
        for name in os.listdir(folder):
            target = os.readlink(folder / name)
            if target.startswith("socket:["):
                inodes.append(int(target[len("socket:[") : -1]))
    except OSError:
        # It has closed one, or ended, meanwhile: what was found is still right.
        pass
    return inodes


def _rows(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()[1:]]
    except OSError:
        return []


def _address(field: str) -> str:
    """Return host:port of a field such as 0100007F:1F90; the words are in the host's order."""
    host, _, port = field.partition(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(words) == 1:
        return f"{socket.inet_ntoa(packed)}:{int(port, 16)}"
    address = IPv6Address(packed)
    if address.ipv4_mapped is not None:
        return f"{address.ipv4_mapped}:{int(port, 16)}"
    return f"[{address}]:{int(port, 16)}"
