"""Clusters with fail-over agents and a real etcd, under writes, and what is checked of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

from synap_client import Client, Options

from tests.command_line import synap_here
from tests.etcd import EtcdCluster
from tests.support import HOST, Node, Startable, descendants_of, eventually

_CALL_SECONDS = 2.0
_READ_SECONDS = 5.0


class Guarded(Startable):
    """Nodes whose master is replaced by itself.

    Attributes:
        etcd: The engine.
        nodes: The first one began as master.
    """

    def __init__(
        self, folder: Path, count: int, quorum: int, ttl: int = 2, members: int = 1,
        credentials: Mapping[str, str] | None = None, engine: dict[str, object] | None = None,
        **settings: object,
    ) -> None:  # fmt: skip
        self.etcd = EtcdCluster(folder / "etcd", members)
        self._engine: dict[str, object] = engine or {
            "failover__engine": "etcd", "failover__endpoints": self.etcd.urls,
        }  # fmt: skip
        # loop + 2 * retry fits into the ttl less its margin of a second.
        step = (ttl - 1) / 4
        common = {
            **self._engine,
            "failover__ttl_secs": ttl,
            "failover__loop_secs": step,
            "failover__retry_secs": step,
            "replication__min_replicas_to_write": quorum,
            "replication__heartbeat_interval_ms": 200,
            "replication__reconnect_delay_ms": 200,
            **settings,
        }
        self.nodes = [
            Node(
                folder / f"n{at}", f"n{at}",
                {**common, "replication__role": "replica" if at else "master"},
            )
            for at in range(count)
        ]  # fmt: skip
        for node in self.nodes:
            node.credentials = credentials or {}

    def start(self) -> None:
        """Start all, and wait until every node votes."""
        if self._engine["failover__engine"] == "etcd":
            self.etcd.start()
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            eventually(node.is_healthy)
        eventually(lambda: len(self.agent().get("voters", ())) == len(self.nodes))

    def kill(self) -> None:
        """Kill all."""
        for node in self.nodes:
            node.kill()
        self.etcd.kill()

    def agent(self) -> dict[str, object]:
        """Return what the agent of a node that answers tells."""
        for node in self.nodes:
            answer = node.answer_or_none("/cluster") if node.is_running else None
            if answer is not None and answer.json().get("failover"):
                found: dict[str, object] = answer.json()["failover"]
                return found
        return {}

    def masters(self) -> list[Node]:
        """Return the nodes whose `/primary` is 200."""
        running = [each for each in self.nodes if each.is_running]
        answers = [(each, each.answer_or_none("/primary")) for each in running]
        return [each for each, answer in answers if answer is not None and answer.status == 200]

    def master(self) -> Node:
        """Return the master, when there is one."""
        return eventually(self.masters)[0]

    def leads(self, *, above: object) -> bool:
        """Whether a node says that it leads, in an epoch above another one."""
        assert isinstance(above, int)
        running = [each for each in self.nodes if each.is_running]
        answers = [each.answer_or_none("/cluster") for each in running]
        told = [answer.json().get("failover") or {} for answer in answers if answer is not None]
        return any(each.get("is_own") and each["epoch"] > above for each in told)

    def await_whole(self) -> None:
        """Wait until every node is one with the only master."""
        eventually(self._is_whole)

    def _is_whole(self) -> bool:
        masters = self.masters()
        others = [each for each in self.nodes if each not in masters]
        answers = [each.answer_or_none("/health/replication") for each in others]
        states = [answer.json().get("status") for answer in answers if answer is not None]
        return len(masters) == 1 and states == ["in_sync"] * (len(self.nodes) - 1)

    def command(self, *arguments: str) -> str:
        """Run `synap failover ...`; return what it says, where it succeeds."""
        engine = {f"SYNAP_{name.upper()}": str(value) for name, value in self._engine.items()}
        done = synap_here("failover", *arguments, SYNAP_ROLE="master", **engine)
        assert done.returncode == 0, done.stderr
        return done.stdout


def send_to_all(node: Node, number: signal.Signals) -> None:
    """Send a signal to every process of a node."""
    for pid in [node.pid, *descendants_of(node.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Load:
    """Clients that write new keys to whoever takes them, until `stop`.

    Attributes:
        acknowledged: When each key was acknowledged (monotonic).
        answered: The nodes that answered 200, by the reign that the answer names.
    """

    def __init__(self, nodes: list[Node], clients: int = 2) -> None:
        self._nodes = nodes
        self._stopping = threading.Event()
        # No other one has written the same keys.
        self._name = time.monotonic_ns()
        self.acknowledged: dict[str, float] = {}
        self.answered: dict[str, set[str]] = defaultdict(set)
        self._threads = [
            threading.Thread(target=self._write, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.acknowledged)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End; twice does no harm."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def await_after(self, moment: float) -> float:
        """Wait for a write that was acknowledged after a moment; return how long writes were away.

        That is the longest time without one from a little before the moment on.
        """
        eventually(lambda: any(at > moment for at in list(self.acknowledged.values())))
        times = sorted(at for at in list(self.acknowledged.values()) if at > moment - 1.0)
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def check(self, cluster: Guarded) -> None:
        """See that all that was acknowledged is there, and each reign was one node's."""
        self.stop()
        cluster.await_whole()
        master = cluster.master()
        keys = sorted(self.acknowledged)
        for at in range(0, len(keys), 500):
            part = keys[at : at + 500]
            values = master.request("POST", "/kv/mget", {"keys": part}).json()["values"]
            lost = [key for key, value in zip(part, values, strict=True) if value is None]
            assert not lost, f"acknowledged and gone: {lost[:5]} of {len(lost)}"
        assert {len(nodes) for nodes in self.answered.values()} == {1}, self.answered

    def _write(self, client: int) -> None:
        nodes, at, number = self._nodes, client, 0
        while not self._stopping.is_set():
            key = f"{self._name}-{client}-{number}"
            node = nodes[at % len(nodes)]
            try:
                answer = node.request(
                    "POST", "/kv/set", {"key": key, "value": "1"}, timeout_seconds=_CALL_SECONDS
                )
            except (OSError, HTTPException):
                at += 1
                time.sleep(0.02)
                continue
            if answer.status == 200:
                self.acknowledged[key] = time.monotonic()
                self.answered[answer.headers["x-synap-position"].partition("-")[2]].add(
                    str(node.settings["server.node_id"])
                )
            else:
                at += 1
                time.sleep(0.02)
            number += 1


class Readers:
    """Clients that read a key from whichever node, until the end; see `failed`.

    Attributes:
        count: Reads that were answered.
        failed: What reads raised after they had been tried at every node.
        longest: Seconds that one read took, with all its tries.
    """

    def __init__(self, nodes: list[Node], clients: int = 2) -> None:
        urls = [f"http://{HOST}:{node.port}" for node in nodes]
        self._client = Client(urls, Options(deadline_seconds=_READ_SECONDS))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(clients)]
        self.count = 0
        self.longest = 0.0
        self.failed: list[Exception] = []

    def __enter__(self) -> Readers:
        self._client.set("read", "1")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _read(self) -> None:
        while not self._stopping.wait(0.01):
            began = time.monotonic()
            try:
                assert self._client.get("read") == "1"
            except Exception as error:
                self.failed.append(error)
            self.longest = max(self.longest, time.monotonic() - began)
            self.count += 1
