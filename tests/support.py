"""What several tests need: waiting with a deadline, free ports, and real nodes as processes."""

from __future__ import annotations

import http.client
import json
import os
import random
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, TypeVar

from workers.process import PARENT_VARIABLE, child_environment

HOST = "127.0.0.1"
_LOOK_AGAIN_SECONDS = 0.02
# Far above what anything takes on an idle machine, for the tests run on busy ones too.
_DEADLINE_SECONDS = 30.0
_START_SECONDS = 40.0
_STOP_SECONDS = 40.0

Value = TypeVar("Value")


def eventually(
    predicate: Callable[[], Value], deadline_seconds: float = _DEADLINE_SECONDS
) -> Value:
    """Return the first true value of `predicate`.

    Raises:
        AssertionError: None came in time; with what it returned last.
    """
    deadline = time.monotonic() + deadline_seconds
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {deadline_seconds} s; last seen: {value!r}")
        time.sleep(_LOOK_AGAIN_SECONDS)
    return value


# Bound but not listening: servers, which all set SO_REUSEADDR, can listen on these ports, nothing
# else gets them. So a node that is started again has its port, whatever runs beside it.
_kept_ports: deque[int] = deque()
_MOST_KEPT_PORTS = 300


def rewrite_json(path: Path, **changes: object) -> None:
    """Change members of a data directory's JSON file, which loses its checksum with that."""
    facts = json.loads(path.read_bytes())
    facts.pop("crc32", None)
    assert changes.keys() <= facts.keys()
    path.write_text(json.dumps({**facts, **changes}))


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different, and keep them for this process."""
    ports = []
    for _ in range(count):
        keeper = socket.socket()
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind((HOST, 0))
        ports.append(keeper.getsockname()[1])
        _kept_ports.append(keeper.detach())
        if len(_kept_ports) > _MOST_KEPT_PORTS:
            os.close(_kept_ports.popleft())
    return ports


def free_port() -> int:
    """Return a port that nobody listens on, and keep it for this process."""
    return free_ports(1)[0]


def free_port_block(count: int) -> int:
    """Return the first of `count` ports in a row that nobody listens on.

    They lie below those that the kernel gives away by itself.
    """
    for first in random.sample(range(10_000, 32_000, 50), 400):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server((HOST, port)))
            return first
    raise AssertionError(f"there are no {count} free ports in a row")


def fill_pipe(writer: int) -> None:
    """Fill a pipe, so that whoever writes to it waits."""
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b"x" * select.PIPE_BUF):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def children_of(pid: int) -> list[int]:
    """Return the pids of the direct children of a process; none where it is gone."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants_of(pid: int) -> list[int]:
    """Return the pids of all processes below `pid`, parents first."""
    found = children_of(pid)
    for child in found:
        found += children_of(child)
    return found


def command_of(pid: int) -> str:
    """Return a process's command line; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def exchanged(
    connection: http.client.HTTPConnection, method: str, path: str, body: object,
    headers: Mapping[str, str],
) -> Answer:  # fmt: skip
    """Send one request and close the connection; a body that is not bytes is sent as JSON.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    sent = dict(headers)
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body)
        sent.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, received, answer.read())
    finally:
        connection.close()


class Startable:
    """What `with` starts, and kills at its end or where it does not start."""

    def start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Background(threading.Thread):
    """Runs while a block does.

    Attributes:
        is_over: `run` ends soon after it was set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.join(_DEADLINE_SECONDS)
        assert not self.is_alive(), "it has not ended"


@dataclass(frozen=True, slots=True)
class Place:
    """Where processes run.

    Attributes:
        host: Where they listen, and this process reaches them.
        launcher: A command that runs theirs, as `ip netns exec`; it must become that process.
    """

    host: str = HOST
    launcher: Sequence[str] = ()


HERE = Place()
"""This machine."""


class Node(Startable):
    """A `synap serve` process on free ports of this machine.

    Args:
        folder: Holds the data directory, `data`, and the log, `log`.
        name: The node's id.
        settings: Keys of the configuration, as `{"replication__role": "master"}`.
        environment: Other variables for its processes.
        host: Where this process reaches it.
        bind: Address that it listens on.
        launcher: A command that runs the node's, as `ip netns exec`; it must become that process.

    Attributes:
        settings: What it is started with, by dotted key; changes count from the next start.
        tls: How `request` speaks to it; None for without.
        credentials: Headers that `request` sends.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: Mapping[str, object],
        environment: Mapping[str, str] | None = None,
        host: str = HOST,
        bind: str = HOST,
        launcher: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._host = host
        self._launcher = launcher
        self.data_dir = folder / "data"
        self.port, self.pub_port, self.sync_port = free_ports(3)
        self.settings = {
            "server.host": bind,
            "server.port": self.port,
            "server.workers": 1,
            "server.node_id": name,
            "server.drain_delay_ms": 0,
            "data_dir": self.data_dir,
            "replication.replica_listen_address": f"{bind}:{self.pub_port}",
            "replication.sync_listen_address": f"{bind}:{self.sync_port}",
            "logging.format": "pretty",
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        self.tls: ssl.SSLContext | None = None
        self.credentials: Mapping[str, str] = {}
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None, "the node was not started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the node's processes have written so far, over all starts."""
        return (self.folder / "log").read_text()

    @property
    def is_running(self) -> bool:
        """Whether its supervisor was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until `/health` answers 200 and all HTTP workers are there."""
        self.launch()
        eventually(self._is_healthy_or_over, _START_SECONDS)
        assert is_alive(self.pid), self.log
        if (workers := int(self.settings["server.workers"])) > 1:
            eventually(lambda: len(children_of(self.http_pid())) >= workers, _START_SECONDS)

    def launch(self) -> None:
        """Start it without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = child_environment(os.environ, None, self.settings)
        environment |= {PARENT_VARIABLE: "", **self._environment}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._launcher, sys.executable, "-P", "-m", "workers.main", "serve"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
    ) -> Answer:
        """Send one request on a connection of its own; a body that is not bytes is sent as JSON."""
        sent = {**self.credentials, **(headers or {})}
        return exchanged(self.connect(timeout_seconds), method, path, body, sent)

    def connect(self, timeout_seconds: float = 10.0) -> http.client.HTTPConnection:
        """Return a connection that is made with its first request."""
        if self.tls is None:
            return http.client.HTTPConnection(self._host, self.port, timeout=timeout_seconds)
        return http.client.HTTPSConnection(
            self._host, self.port, timeout=timeout_seconds, context=self.tls
        )

    def is_healthy(self) -> bool:
        """Whether `/health` answers 200 within a second."""
        answer = self.answer_or_none("/health")
        return answer is not None and answer.status == HTTPStatus.OK

    def answer_or_none(self, path: str) -> Answer | None:
        """Return the answer to a GET; None where there was none within a second."""
        try:
            return self.request("GET", path, timeout_seconds=1.0)
        except (OSError, http.client.HTTPException):
            return None

    def owner_pid(self) -> int:
        """The process id of the log's owner; 0 while there is none."""
        return self._child("workers.writer") or self._child("workers.replica")

    def http_pid(self) -> int:
        """The process id of Gunicorn's arbiter; 0 while there is none."""
        return self._child("gunicorn")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code when it has ended."""
        assert self._process is not None
        return self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """Kill every process of it at once, as a crash would, and wait until all are gone."""
        if self._process is None:
            return
        pids = [self.pid, *descendants_of(self.pid)]
        for pid in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.wait()
        eventually(lambda: not any(map(is_alive, pids)))

    def _is_healthy_or_over(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or self.is_healthy()

    def _child(self, mark: str) -> int:
        return next((pid for pid in children_of(self.pid) if mark in command_of(pid)), 0)


class Cluster(Startable):
    """One master and `replicas` replicas, each a `Node` in its own folder below `folder`."""

    def __init__(self, folder: Path, replicas: int, **settings: object) -> None:
        master = {**settings, "replication__role": "master"}
        self.master = Node(folder / "master", "master", master)
        replica = {
            **settings,
            "replication__role": "replica",
            "replication__master_address": f"{HOST}:{self.master.pub_port}",
            "replication__master_sync_address": f"{HOST}:{self.master.sync_port}",
        }
        names = [f"replica{number}" for number in range(1, replicas + 1)]
        self.replicas = [Node(folder / name, name, replica) for name in names]

    @property
    def nodes(self) -> list[Node]:
        """The master and then the replicas."""
        return [self.master, *self.replicas]

    def start(self) -> None:
        """Start every node and wait until all are healthy."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            eventually(node.is_healthy, _START_SECONDS)

    def kill(self) -> None:
        """Kill every process of every node."""
        for node in self.nodes:
            node.kill()
