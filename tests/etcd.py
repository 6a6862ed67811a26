"""etcd for tests: Debian's `etcd-server`, one member or several, on free ports of this machine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.support import HOST, Startable, eventually, free_ports


class EtcdMember(Startable):
    """A member's process.

    Attributes:
        url: For clients.
        peer_url: For the other members.
        cluster: All members, as etcd wants them named.
    """

    def __init__(self, folder: Path, name: str, client_port: int, peer_port: int) -> None:
        self._folder = folder
        self._name = name
        self.url = f"http://{HOST}:{client_port}"
        self.peer_url = f"http://{HOST}:{peer_port}"
        self.cluster = ""
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it without waiting."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "etcd", "--name", self._name, "--data-dir", str(self._folder / "data"),
                    "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                    "--listen-peer-urls", self.peer_url,
                    "--initial-advertise-peer-urls", self.peer_url,
                    "--initial-cluster", self.cluster, "--heartbeat-interval", "50",
                    "--election-timeout", "500", "--logger", "zap", "--log-level", "error",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        eventually(self.is_healthy)

    def is_healthy(self) -> bool:
        """Whether it has a leader."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=1)
        try:
            connection.request("GET", "/health")
            told = json.loads(connection.getresponse().read())
            return bool(told.get("health") == "true")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it; its data stays."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(10)


class EtcdCluster(Startable):
    """`count` members."""

    def __init__(self, folder: Path, count: int = 1) -> None:
        ports = free_ports(2 * count)
        self.members = [
            EtcdMember(folder / f"e{at}", f"e{at}", ports[2 * at], ports[2 * at + 1])
            for at in range(count)
        ]
        cluster = ",".join(f"e{at}={each.peer_url}" for at, each in enumerate(self.members))
        for each in self.members:
            each.cluster = cluster

    @property
    def urls(self) -> str:
        """What `failover.endpoints` takes."""
        return ",".join(each.url for each in self.members)

    def start(self) -> None:
        """Start all, and wait until they answer."""
        for each in self.members:
            each.launch()
        for each in self.members:
            eventually(each.is_healthy)

    def kill(self) -> None:
        """Kill all."""
        with ExitStack() as stack:
            for each in self.members:
                stack.callback(each.kill)
