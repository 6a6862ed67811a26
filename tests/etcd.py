"""etcd for tests: Debian's `etcd-server`, one member or several, on free ports of this machine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.support import HERE, Place, Startable, eventually, free_ports


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """Files in PEM by which clients and a member know each other, and a client's side of it."""

    ca: Path
    cert: Path
    key: Path
    client: ssl.SSLContext

    @property
    def arguments(self) -> list[str]:
        """Of the member's process, which wants a certificate of each client."""
        return [
            "--cert-file", str(self.cert), "--key-file", str(self.key),
            "--trusted-ca-file", str(self.ca), "--client-cert-auth", "--bcrypt-cost", "4",
        ]  # fmt: skip


class EtcdMember(Startable):
    """A member's process.

    Attributes:
        url: For clients.
        peer_url: For the other members.
        cluster: All members, as etcd wants them named.
    """

    def __init__(
        self, folder: Path, name: str, client_port: int, peer_port: int,
        tls: EtcdTls | None = None, place: Place = HERE,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._name = name
        self._tls = tls
        self._launcher = place.launcher
        self._address = f"{place.host}:{client_port}"
        self.url = f"http{'s' if tls else ''}://{self._address}"
        self.peer_url = f"http://{place.host}:{peer_port}"
        self.cluster = ""
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it without waiting."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._launcher, "etcd",
                    "--name", self._name, "--data-dir", str(self._folder / "data"),
                    "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                    "--listen-peer-urls", self.peer_url,
                    "--initial-advertise-peer-urls", self.peer_url,
                    "--initial-cluster", self.cluster, "--heartbeat-interval", "50",
                    "--election-timeout", "500", "--logger", "zap", "--log-level", "error",
                    *(self._tls.arguments if self._tls else ()),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        eventually(self.is_healthy)

    def is_healthy(self) -> bool:
        """Whether it has a leader."""
        connection = self._connect()
        try:
            connection.request("GET", "/health")
            told = json.loads(connection.getresponse().read())
            return bool(told.get("health") == "true")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._address, timeout=1)
        return http.client.HTTPSConnection(self._address, timeout=1, context=self._tls.client)

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

    def __init__(
        self, folder: Path, count: int = 1, tls: EtcdTls | None = None, place: Place = HERE
    ) -> None:
        ports = free_ports(2 * count)
        self.members = [
            EtcdMember(folder / f"e{at}", f"e{at}", ports[2 * at], ports[2 * at + 1], tls, place)
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
