"""Clusters with fail-over agents and a real etcd, under writes, and what is checked of them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Self
from urllib.parse import quote

from synap_client import Client, Options

from tests.command_line import synap_here
from tests.etcd import EtcdCluster
from tests.haproxy import Proxy
from tests.support import HERE, HOST, Answer, Node, Place, Startable, descendants_of, eventually

_CALL_SECONDS = 2.0
_READ_SECONDS = 5.0


class Guarded(Startable):
    """Nodes whose master is replaced by itself.

    Attributes:
        etcd: The engine.
        nodes: The first one began as master.
        quorum: How many replicas each write waits for.
    """

    def __init__(
        self, folder: Path, count: int, quorum: int, ttl: int = 2, members: int = 1,
        credentials: Mapping[str, str] | None = None, engine: dict[str, object] | None = None,
        places: Mapping[str, Place] | None = None, **settings: object,
    ) -> None:  # fmt: skip
        """
        Args:
            folder: For the files of all.
            count: Of the nodes, which are n0, n1 and so on.
            quorum: How many replicas each write waits for.
            ttl: Seconds of a lease.
            members: Of etcd.
            credentials: Headers for the nodes.
            engine: Settings of another engine than etcd.
            places: Of a node, and of `etcd`, where that is another than this machine.
            settings: Of the nodes.
        """
        places = places or {}
        self.quorum = quorum
        self.etcd = EtcdCluster(folder / "etcd", members, place=places.get("etcd", HERE))
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
        self.nodes = []
        for at in range(count):
            name, role = f"n{at}", "replica" if at else "master"
            place = places.get(name, HERE)
            node = Node(
                folder / name, name, {**common, "replication__role": role}, host=place.host,
                bind=place.host, launcher=place.launcher,
            )  # fmt: skip
            node.credentials = credentials or {}
            self.nodes.append(node)

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


def balancer(folder: Path, cluster: Guarded) -> Proxy:
    """Return a HAProxy before a cluster that has a quorum, not started yet."""
    servers = ("master", "replica1", "replica2", "replica3")
    return Proxy(folder, dict(zip(servers, cluster.nodes, strict=False)), rise=2)


class Load:
    """Clients that write new keys to whoever takes them, until `stop`.

    Attributes:
        acknowledged: When each key was acknowledged (monotonic).
        answered: The nodes that answered 200, by the reign that the answer names.
        reigns: Of each, when its first write was acknowledged, and when its last one was sent.
    """

    def __init__(
        self, nodes: Sequence[Node | Proxy], clients: int = 2, *, roams: bool = False
    ) -> None:
        """
        Args:
            nodes: Who is written to.
            clients: How many write.
            roams: They go to another node after each write, so that no second master is unseen.
        """
        self._nodes = nodes
        self._roams = roams
        self._stopping = threading.Event()
        # No other one has written the same keys.
        self._name = time.monotonic_ns()
        self.acknowledged: dict[str, float] = {}
        self.answered: dict[str, set[str]] = defaultdict(set)
        self.reigns: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
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
        self.check_reigns()

    def check_reigns(self) -> None:
        """See that each reign was one node's, and over when the next one's first ack came."""
        assert {len(nodes) for nodes in self.answered.values()} == {1}, self.answered
        spans = sorted(self.reigns.values())
        assert all(old[1] <= new[0] for old, new in pairwise(spans)), self.reigns

    def _write(self, client: int) -> None:
        nodes, at, number = self._nodes, client, 0
        while not self._stopping.is_set():
            key = f"{self._name}-{client}-{number}"
            node = nodes[at % len(nodes)]
            sent = time.monotonic()
            try:
                answer = node.request(
                    "POST", "/kv/set", {"key": key, "value": "1"}, timeout_seconds=_CALL_SECONDS
                )
            except (OSError, HTTPException):
                at += 1
                time.sleep(0.02)
                continue
            if answer.status == 200:
                self._note(key, sent, answer, str(node.settings["server.node_id"]))
                at += self._roams
            else:
                at += 1
                time.sleep(0.02)
            number += 1

    def _note(self, key: str, sent: float, answer: Answer, name: str) -> None:
        reign = answer.headers["x-synap-position"].partition("-")[2]
        with self._lock:
            now = self.acknowledged[key] = time.monotonic()
            self.answered[reign].add(name)
            first, last = self.reigns.get(reign, (now, sent))
            self.reigns[reign] = first, max(last, sent)


class _Clients:
    """Threads that work until the end of a block, or until `_stopping` is set."""

    def __init__(self, *works: Callable[[], None]) -> None:
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=each) for each in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


class Register(_Clients):
    """Clients of one key: one sets it to ever higher numbers, others read it, strongly.

    Attributes:
        count: Reads that were answered.
        went_back: What was read below what was seen before: both, and the node.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__(self._write, self._read, self._read)
        self._nodes = nodes
        self._name = f"register {time.monotonic_ns()}"
        self._lock = threading.Lock()
        self._newest = 0
        self.count = 0
        self.went_back: list[tuple[int, int, str]] = []

    def _write(self) -> None:
        at = number = 0
        while not self._stopping.wait(0.01):
            number += 1
            node, body = self._nodes[at], {"key": self._name, "value": str(number)}
            if _status(node, "POST", "/kv/set", body)[0] == 200:
                with self._lock:
                    self._newest = max(self._newest, number)
            else:
                at = (at + 1) % len(self._nodes)

    def _read(self) -> None:
        at = 0
        while not self._stopping.wait(0.01):
            node, seen = self._nodes[at], self._newest
            status, body = _status(node, "GET", f"/kv/get/{quote(self._name)}")
            if status == 200:
                self._look(seen, int(json.loads(body)), str(node.settings["server.node_id"]))
            elif status == 404:
                self._look(seen, 0, str(node.settings["server.node_id"]))
            # Whoever else takes itself for the master is to be asked, too.
            at = (at + 1) % len(self._nodes)

    def _look(self, seen: int, read: int, node: str) -> None:
        with self._lock:
            self.count += 1
            self._newest = max(self._newest, read)
            if read < seen:
                self.went_back.append((seen, read, node))


def _status(node: Node, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Return status and body of an answer that tells all that was acknowledged; 0 for none."""
    try:
        answer = node.request(
            method, path, body, {"X-Synap-Consistency": "strong"} if method == "GET" else None,
            timeout_seconds=_CALL_SECONDS,
        )  # fmt: skip
    except (OSError, HTTPException):
        return 0, b""
    return answer.status, answer.body


class Readers(_Clients):
    """Clients that read a key from whichever node, until the end; see `failed`.

    Attributes:
        count: Reads that were answered.
        failed: What reads raised after they had been tried at every node.
        longest: Seconds that one read took, with all its tries.
    """

    def __init__(self, nodes: list[Node], clients: int = 2) -> None:
        super().__init__(*[self._read] * clients)
        urls = [f"http://{HOST}:{node.port}" for node in nodes]
        self._client = Client(urls, Options(deadline_seconds=_READ_SECONDS))
        self.count = 0
        self.longest = 0.0
        self.failed: list[Exception] = []

    def __enter__(self) -> Self:
        self._client.set("read", "1")
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
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
