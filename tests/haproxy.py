"""A real HAProxy before nodes of a test, by the file that is shipped."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from tests.support import HOST, Answer, Node, Startable, eventually, exchanged, free_ports

_FILE = Path(__file__).parents[1] / "ops/haproxy.cfg"
_PASSWORD = "correct horse"
_CREDENTIALS = b64encode(f"synap:{_PASSWORD}".encode()).decode()

# Debian keeps it where users' PATH does not lead.
HAPROXY = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")


class Proxy(Startable):
    """HAProxy with the real file, its names and ports replaced.

    Attributes:
        port: Where it takes requests.
        settings: Its name as that of a node.
    """

    def __init__(self, folder: Path, servers: Mapping[str, Node], rise: int = 12) -> None:
        """
        Args:
            folder: For the file, and what HAProxy says.
            servers: The node behind each server of the file; others are left out.
            rise: How many checks a new master has to pass.
        """
        self.settings = {"server.node_id": "haproxy"}
        self.port, self._statistics = free_ports(2)
        self._folder = folder
        text = _FILE.read_text().replace("rise 12", f"rise {rise}")
        for server, node in servers.items():
            name = f"synap-{server}:15500"
            assert name in text
            text = text.replace(name, f"{HOST}:{node.port}")
        text = re.sub(r"^ +server .* synap-.*\n", "", text, flags=re.MULTILINE)
        # A short life of the replicas' freshness, for the reads while there is no master.
        text = text.replace("max_lag_ms=5000", "max_lag_ms=1000")
        text = text.replace("bind :15600", f"bind {HOST}:{self.port}")
        self._text = text.replace("bind :15601", f"bind {HOST}:{self._statistics}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it knows the master."""
        path = self._folder / "haproxy.cfg"
        path.write_text(self._text)
        with (self._folder / "haproxy.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(HAPROXY), "-db", "-f", path],
                env={**os.environ, "SYNAP_STATISTICS_PASSWORD": _PASSWORD},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self.up("primary"))

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
    ) -> Answer:
        """Send one request on a connection of its own, its body as JSON.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_seconds)
        return exchanged(connection, method, path, body, headers or {})

    def up(self, backend: str) -> set[str]:
        """Return the names of the servers of a backend that pass their checks."""
        connection = http.client.HTTPConnection(HOST, self._statistics, timeout=10)
        try:
            connection.request("GET", "/;csv", headers={"Authorization": f"Basic {_CREDENTIALS}"})
            lines = connection.getresponse().read().decode().splitlines()
        except OSError:
            return set()
        finally:
            connection.close()
        rows = [line.split(",") for line in lines]
        return {row[1] for row in rows if row[0] == backend and row[17] == "UP"} - {"BACKEND"}
