"""Clusters that have the keys between them, behind the HAProxy that is shipped."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synap.slots import SLOTS, ranges, slot_of
from tests.support import HOST, Answer, Background, Node, eventually, exchanged, free_ports
from workers.cli.slot_move import Cluster, SlotMove
from workers.cli.slots import HttpCalls, switch_map

OPS = Path(__file__).parents[1] / "ops"
# Debian keeps it where users' PATH does not lead.
HAPROXY = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
# What a node says that did nothing, and that the next try may not meet.
_PASSING = ("slot_moving", "slot_elsewhere", "no_slot")


class Proxy:
    """HAProxy with the shipped file, before one server for each cluster."""

    def __init__(self, folder: Path, ports: dict[str, int], owners: list[str]) -> None:
        """
        Args:
            ports: Of the server of each cluster; `a`, `b` or `c`.
            owners: The cluster of each slot.
        """
        (self.port,) = free_ports(1)
        self.map = folder / "slots.map"
        self.map.write_text("".join(f"{slot} {name}\n" for slot, name in enumerate(owners)))
        self.socket = str(folder / "proxy.sock")
        text = (OPS / "haproxy-shards.cfg").read_text()
        text = re.sub(r"synap-([a-c])\d:15500", lambda found: _at(ports, found[1]), text)
        text = text.replace(" resolvers dns\n", "\n").replace("rise 12", "rise 1")
        # Checks of a machine that is busy with other tests may be late.
        text = text.replace("inter 500ms fastinter 250ms", "inter 2s fastinter 1s")
        self._file = folder / "haproxy.cfg"
        self._file.write_text(text.replace("bind :15600", f"bind {HOST}:{self.port}"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert HAPROXY is not None, "haproxy is not installed"
        environment = {"SYNAP_PROXY_SOCKET": self.socket, "SYNAP_SLOTS_MAP": str(self.map)}
        self._process = subprocess.Popen(
            [HAPROXY, "-f", str(self._file), "-db"],
            env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(lambda: self._is_up() or self._process.poll() is not None)
        assert self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def rewrite(self, slot: int, name: str) -> None:
        """Keep the map's file in step, as an operator does after a move."""
        lines = self.map.read_text().splitlines(keepends=True)
        lines[slot] = f"{slot} {name}\n"
        self.map.write_text("".join(lines))

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        return exchanged(connection, method, path, body, sent)

    def _is_up(self) -> bool:
        try:
            return self.request("GET", "/proxy/health").status == 200
        except OSError:
            return False


def _at(ports: dict[str, int], name: str) -> str:
    return f"{HOST}:{ports.get(name, 9)}"


class Shards:
    """Clusters of one node each that have equal shares of the slots, the first one the lowest."""

    def __init__(self, folder: Path, names: Sequence[str] = ("a", "b")) -> None:
        self.nodes = {
            name: Node(folder / name, name, {"sharding__cluster": name}) for name in names
        }
        self.owners = [names[slot * len(names) // SLOTS] for slot in range(SLOTS)]
        for node in self.nodes.values():
            node.settings["sharding.slots"] = ",".join(
                f"{ranges(self.slots_of(name))} {name} {url_of(self.nodes[name])}" for name in names
            )
        ports = {name: node.port for name, node in self.nodes.items()}
        self.proxy = Proxy(folder, ports, self.owners)

    def slots_of(self, name: str) -> list[int]:
        """Return the slots that a cluster has by the configuration."""
        return [slot for slot, owner in enumerate(self.owners) if owner == name]

    def start(self) -> None:
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            eventually(node.is_healthy)
        self.proxy.start()

    def kill(self) -> None:
        self.proxy.kill()
        for node in self.nodes.values():
            node.kill()

    def move(
        self, slot: int, source: str, target: str, calls: object = None, told: object = None
    ) -> SlotMove:
        """Return a move that switches the proxy's map."""
        http = calls or HttpCalls()

        def cluster(name: str) -> Cluster:
            return Cluster(http, [url_of(self.nodes[name])], slot)

        return SlotMove(
            cluster(source), cluster(target), slot, target_url=url_of(self.nodes[target]),
            tell=told or (lambda _: None),
            switch=lambda name: switch_map(self.proxy.socket, str(self.proxy.map), slot, name),
        )  # fmt: skip

    def keys(self, name: str) -> dict[str, Any]:
        """Return what a cluster stores."""
        lines = self.nodes[name].request("GET", "/kv/export").body.splitlines()[1:-1]
        return {each["key"]: each["value"] for each in map(json.loads, lines)}


@contextmanager
def shards(folder: Path, names: Sequence[str] = ("a", "b")) -> Iterator[Shards]:
    """Run clusters behind a proxy."""
    made = Shards(folder, names)
    try:
        made.start()
        yield made
    finally:
        made.kill()


class Writes(Background):
    """Sets one new key of a tag after the other through the proxy, and keeps what was answered.

    Attributes:
        acknowledged: Values by key.
        longest_seconds: The longest time between two answers.
    """

    def __init__(self, proxy: Proxy, tag: str, now: Callable[[], float]) -> None:
        super().__init__()
        self.acknowledged: dict[str, str] = {}
        self.longest_seconds = 0.0
        self._proxy = proxy
        self._tag = tag
        self._now = now

    def run(self) -> None:
        number, last = 0, self._now()
        while not self.is_over.wait(0.002):
            number += 1
            key, value = f"{{{self._tag}}}{number}", f"value {number}"
            body = json.dumps({"key": key, "value": value}).encode()
            try:
                answer = self._proxy.request("POST", "/kv/set", body)
            except (OSError, http.client.HTTPException):
                continue
            if answer.status == 200:
                self.acknowledged[key] = value
                self.longest_seconds = max(self.longest_seconds, self._now() - last)
                last = self._now()
            else:
                reason = answer.json().get("reason") if answer.status < 500 else "busy"
                assert answer.status >= 500 or reason in _PASSING, answer.body


def tag_in(first: int, last: int, number: int = 0) -> str:
    """Return the n-th text whose slot is between two, both included."""
    found = (f"tag{at}" for at in range(100 * SLOTS) if first <= slot_of(b"tag%d" % at) <= last)
    for _ in range(number):
        next(found)
    return next(found)


def url_of(node: Node) -> str:
    return f"http://{HOST}:{node.port}"
