"""The systems that are measured, each started fresh on its own data and stopped afterwards."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

from ops.bench.cpu import process_tree
from ops.bench.errors import MeasurementFailed
from ops.bench.programs import require_program
from ops.client import Client
from ops.processes import ServerProcess, accepts, free_ports

START_DEADLINE_SECONDS = 30
Pair = tuple[str, str]


class System(Protocol):
    """A running key-value store with an HTTP interface.

    Attributes:
        name: For the tables.
        dialect: How requests to it look, as in requests.lua.
        url: Where it listens.
    """

    name: str
    dialect: str
    url: str

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            MeasurementFailed: a program is missing.
            StartFailed: it did not start.
        """

    def __exit__(self, *_: object) -> None:
        """Stop it."""

    def write(self, pairs: Iterable[Pair]) -> None:
        """Write `pairs` in one request.

        Raises:
            MeasurementFailed: it did not acknowledge them.
        """

    def read(self, key: str) -> Any:
        """Return the value of `key` as JSON gives it; None where there is none."""

    def pids(self) -> list[int]:
        """Return every process that belongs to it."""


class SynapNode:
    """One Synap master without replicas, with the configuration's defaults.

    Args:
        folder: An empty place for its data.
        fsync_mode: "always", "periodic" or "never".
        settings: Other keys of the configuration.
        environment: Other variables for its processes.

    Attributes:
        data_dir: Where its data is; it may be started again on that.
        ports: Where it listens: HTTP, PUB, ROUTER.
    """

    name = "Synap"
    dialect = "synap"

    def __init__(
        self,
        folder: Path,
        fsync_mode: str,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = folder / "data"
        self._folder = folder
        self._fsync_mode = fsync_mode
        self._settings = settings or {}
        self._environment = environment or {}
        self._cleanup = ExitStack()
        self.url = ""
        self._ca_file = ""
        self.ports: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        self.ports = port, pub_port, sync_port = tuple(free_ports(3))
        self._ca_file = str(self._settings.get("server.tls.cert_path", ""))
        self.url = f"{'https' if self._ca_file else 'http'}://127.0.0.1:{port}"
        settings = {
            "data_dir": self.data_dir,
            "server.host": "127.0.0.1",
            "server.port": port,
            "replication.role": "master",
            "replication.replica_listen_address": f"127.0.0.1:{pub_port}",
            "replication.sync_listen_address": f"127.0.0.1:{sync_port}",
            "persistence.wal.fsync_mode": self._fsync_mode,
            "logging.level": "warning",
            **self._settings,
        }
        self.master_settings = {
            "replication.role": "replica",
            "replication.master_address": f"127.0.0.1:{pub_port}",
            "replication.master_sync_address": f"127.0.0.1:{sync_port}",
        }
        command = [sys.executable, "-m", "workers.main", "serve"]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        with ExitStack() as stack:
            log = self._folder / "node.log"
            server = stack.enter_context(ServerProcess(command, log, self._environment))
            server.wait_until(self._is_healthy, self.name, START_DEADLINE_SECONDS)
            self._client = stack.enter_context(Client(self.url, ca_file=self._ca_file))
            self._server = server
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def kill(self) -> None:
        """End it as a crash does."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)

    def snapshot(self) -> None:
        """Take a snapshot; returns when it is durable.

        Raises:
            UnexpectedAnswer: it could not be taken.
        """
        with Client(self.url, timeout_seconds=300) as client:
            client.post("/snapshot", {})

    def write(self, pairs: Iterable[Pair]) -> None:
        document = {"pairs": [{"key": key, "value": value} for key, value in pairs]}
        if self._client.post("/kv/mset", document) != {"success": True}:
            raise MeasurementFailed("Synap did not take the data to measure with")

    def read(self, key: str) -> Any:
        answer = self._client.request("GET", f"/kv/get/{key}")
        return answer.json() if answer.status == 200 else None

    def pids(self) -> list[int]:
        return process_tree(self._server.pid)

    def http_pid(self) -> int:
        """Return the process id of Gunicorn's arbiter."""
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self.pids()}
        return min(pid for pid, command in commands.items() if b"gunicorn" in command)

    def _is_healthy(self) -> bool:
        try:
            with Client(self.url, timeout_seconds=2, ca_file=self._ca_file) as client:
                return client.request("GET", "/health").status == 200
        except OSError:
            return False


class RedisBehindWebdis:
    """A Redis server with webdis, which answers HTTP for it.

    They speak over a UNIX socket, and webdis has a thread for each core: its best.

    Args:
        folder: An empty place for its data; short, for the socket's path.
        append_fsync: "no" for Redis without its log, else its `appendfsync`.
        threads: Threads of webdis.

    Attributes:
        socket: Where Redis itself listens.
    """

    name = "webdis"
    dialect = "webdis"

    def __init__(self, folder: Path, append_fsync: str, threads: int) -> None:
        self.socket = folder / "redis.sock"
        self._folder = folder
        self._append_fsync = append_fsync
        self._threads = threads
        self._servers: list[ServerProcess] = []
        self._cleanup = ExitStack()
        self.url = ""

    def __enter__(self) -> Self:
        programs = require_program("redis-server"), require_program("webdis")
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        socket = self.socket
        with ExitStack() as stack:
            redis = ServerProcess(
                [programs[0], *self._redis_options(socket)], self._folder / "redis.log"
            )
            stack.enter_context(redis)
            redis.wait_until(socket.exists, "redis-server", START_DEADLINE_SECONDS)
            command = [programs[1], str(self._webdis_file(socket, port))]
            webdis = stack.enter_context(ServerProcess(command, self._folder / "webdis.out"))
            webdis.wait_until(lambda: accepts(port), "webdis", START_DEADLINE_SECONDS)
            self._client = stack.enter_context(Client(self.url))
            self._servers = [redis, webdis]
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def write(self, pairs: Iterable[Pair]) -> None:
        command = "/".join(("MSET", *(word for pair in pairs for word in pair)))
        answer = self._client.request("POST", "/", command.encode()).json()
        if answer != {"MSET": [True, "OK"]}:
            raise MeasurementFailed(f"webdis did not take the data to measure with: {answer}")

    def read(self, key: str) -> Any:
        return self._client.get(f"/GET/{key}")["GET"]

    def pids(self) -> list[int]:
        return [pid for server in self._servers for pid in process_tree(server.pid)]

    def _redis_options(self, socket: Path) -> list[str]:
        log = ["--appendonly", "no"]
        if self._append_fsync != "no":
            log = ["--appendonly", "yes", "--appendfsync", self._append_fsync]
        place = ["--dir", str(self._folder), "--unixsocket", str(socket), "--port", "0"]
        return [*place, "--save", "", *log]

    def _webdis_file(self, socket: Path, port: int) -> Path:
        file = self._folder / "webdis.json"
        settings = {
            "redis_host": str(socket),
            "redis_port": 0,
            "http_host": "127.0.0.1",
            "http_port": port,
            "threads": self._threads,
            "daemonize": False,
            "verbosity": 0,
            "logfile": str(self._folder / "webdis.log"),
        }
        file.write_text(json.dumps(settings), encoding="utf-8")
        return file
