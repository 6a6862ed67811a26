"""Start, await and stop the servers that the programs in this folder drive.

Every server gets a process group of its own and its output in a file, so that stopping it takes
its children along and a failed start can say why.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.02
_PORT_ATTEMPTS = 100
# Linux gives outgoing connections ports from 32768 on.
_BASE_PORTS = (10_000, 32_000)


class StartFailed(Exception):
    """A server did not start, or ended while it was needed."""


class ServerProcess:
    """One server and its children, from start to stop; a context manager.

    Args:
        command: Program and arguments.
        log: File that gets standard output and standard error.
        environment: Variables on top of this process's own.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until(self, is_ready: Callable[[], bool], what: str, deadline_seconds: float) -> None:
        """Wait for `is_ready`.

        Raises:
            StartFailed: the server ended or the deadline passed; the message ends with its log.
        """
        deadline = time.monotonic() + deadline_seconds
        while not is_ready():
            if self._process.poll() is not None:
                raise StartFailed(f"{what}: ended with {self._process.returncode}\n{self._tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{what}: not within {deadline_seconds:.0f} s\n{self._tail()}")
            time.sleep(_POLL_SECONDS)

    def stop(self, grace_seconds: float = 15) -> None:
        """End the server: SIGTERM, and after `grace_seconds` SIGKILL for its whole group."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()


def free_ports(count: int) -> list[int]:
    """Return TCP ports of 127.0.0.1 that are free, chosen as by `free_base_port`."""
    base = free_base_port(range(count))
    return list(range(base, base + count))


def free_base_port(used: Iterable[int]) -> int:
    """Return a port such that it and all of `used`, counted from it, are free on 127.0.0.1.

    It lies below the ports that the kernel gives to outgoing connections, so that none of those
    can take one before the server listens.

    Raises:
        StartFailed: none was found.
    """
    for _ in range(_PORT_ATTEMPTS):
        base = random.randrange(*_BASE_PORTS)
        if all(_is_free(base + step) for step in used):
            return base
    raise StartFailed("no row of free ports was found")


def accepts(port: int) -> bool:
    """Say whether somebody listens on `port` of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A connection that lately ended here does not keep a server from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
