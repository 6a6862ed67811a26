"""Load a real data set into a cluster and prove that every node holds the same.

    python -m ops.demo                                   a cluster of its own, gone afterwards
    python -m ops.demo --url http://127.0.0.1:15500 --url http://127.0.0.1:15510

Every package that Debian's lists know goes through the master's HTTP API. Then every replica must
reach the master's offset and all nodes must have the same digest; otherwise the exit code is 1.
"""

from __future__ import annotations

import http.client
import itertools
import json
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ops.client import Client, UnexpectedAnswer
from ops.packages import NoPackages, Package, available_packages, package_key
from ops.processes import ServerProcess, StartFailed, free_base_port

REPLICAS = 3
# Ports of `synap cluster`, from its base port on: three of each node.
CLUSTER_PORTS = tuple(10 * number + port for number in range(REPLICAS + 1) for port in range(3))
START_DEADLINE_SECONDS = 60
CATCH_UP_DEADLINE_SECONDS = 60
LAG_INTERVAL_SECONDS = 0.1
SAMPLES = 200

_NO_ANSWER = (OSError, http.client.HTTPException, UnexpectedAnswer)


class DemoFailed(Exception):
    """The cluster did not do what it promises."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The addresses of a running cluster."""

    master: str
    replicas: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return (self.master, *self.replicas)


class Digest(NamedTuple):
    """What a node says of its whole content."""

    offset: int
    keys: int
    digest: str


class Loader:
    """Writes packages to the master from several connections.

    Args:
        url: The master.
        packages: The records; each is written once.
        on_written: Called after each acknowledged record, from several threads.
    """

    def __init__(
        self, url: str, packages: Sequence[Package], on_written: Callable[[], None]
    ) -> None:
        self._url = url
        self._on_written = on_written
        self._waiting: queue.SimpleQueue[Package] = queue.SimpleQueue()
        for package in packages:
            self._waiting.put(package)
        self._failures: list[Exception] = []

    def run(self, connections: int) -> None:
        """Write every record.

        Raises:
            DemoFailed: a write was not acknowledged.
        """
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failures:
            raise DemoFailed(f"a write failed: {self._failures[0]}")

    def _work(self) -> None:
        with Client(self._url) as client:
            try:
                while not self._failures:
                    self._write(client, self._waiting.get_nowait())
            except queue.Empty:
                return
            except _NO_ANSWER as error:
                self._failures.append(error)

    def _write(self, client: Client, package: Package) -> None:
        client.post("/kv/set", {"key": package_key(package), "value": package})
        self._on_written()


class LagWatch:
    """Watches the replicas' lag while the block it surrounds runs.

    Attributes:
        entries: Largest difference seen between a replica's offset and the master's, which is asked
            just after it; so rather too large than too small.
        milliseconds: Largest age of an entry that a replica had not acknowledged, by the master's
            account, or not applied, by its own.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.entries = 0
        self.milliseconds = 0
        self._nodes = nodes
        self._should_stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> LagWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._should_stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with ExitStack() as stack:
            master, *replicas = (stack.enter_context(Client(url)) for url in self._nodes.all)
            while not self._should_stop.wait(LAG_INTERVAL_SECONDS):
                for replica in replicas:
                    self._look(master, replica)

    def _look(self, master: Client, replica: Client) -> None:
        try:
            health = replica.get("/health/replication")
            at_master = master.get("/health/replication")
        except _NO_ANSWER:
            return
        self.entries = max(self.entries, at_master["current_offset"] - health["local_offset"])
        lags_ms = [facts["lag_ms"] for facts in at_master["replicas"]]
        self.milliseconds = max(self.milliseconds, health["lag_ms"], *lags_ms)


def stored_text(package: Package) -> str:
    """Return the text that a node stores for a record: its JSON, compact."""
    return json.dumps(package, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def own_cluster() -> Iterator[Nodes]:
    """Run a cluster of one master and three replicas in a temporary place.

    Raises:
        StartFailed: it did not come up in time.
    """
    base = free_base_port(CLUSTER_PORTS)
    urls = [f"http://127.0.0.1:{base + 10 * number}" for number in range(REPLICAS + 1)]
    nodes = Nodes(urls[0], tuple(urls[1:]))
    with tempfile.TemporaryDirectory(prefix="synap-demo-") as folder:
        command = [sys.executable, "-m", "workers.main", "cluster"]
        command += ["--replicas", str(REPLICAS), "--base-port", str(base)]
        command += ["--data-dir", str(Path(folder, "data"))]
        with ServerProcess(command, Path(folder, "cluster.log")) as server:
            server.wait_until(lambda: is_serving(nodes), "the cluster", START_DEADLINE_SECONDS)
            yield nodes


def is_serving(nodes: Nodes) -> bool:
    """Say whether every node is healthy and every replica knows its master."""
    try:
        for url in nodes.all:
            with Client(url, timeout_seconds=2) as client:
                client.get("/health")
        return all(is_caught_up(nodes.master, url) for url in nodes.replicas)
    except _NO_ANSWER:
        return False


def is_caught_up(master: str, replica: str) -> bool:
    """Say whether `replica` has applied all that `master` has logged."""
    with Client(master) as client:
        offset = client.get("/health/replication")["current_offset"]
    with Client(replica) as client:
        health = client.get("/health/replication")
    return bool(health["status"] == "in_sync" and health["local_offset"] >= offset)


def wait_for_replicas(nodes: Nodes) -> None:
    """Wait until each replica's offset equals the master's.

    Raises:
        DemoFailed: one did not get there in time.
    """
    deadline = time.monotonic() + CATCH_UP_DEADLINE_SECONDS
    for url in nodes.replicas:
        while not is_caught_up(nodes.master, url):
            if time.monotonic() > deadline:
                raise DemoFailed(f"{url} did not reach the master's offset")
            time.sleep(LAG_INTERVAL_SECONDS)


def equal_digest(nodes: Nodes) -> Digest:
    """Return the digest that every node has.

    Raises:
        DemoFailed: two nodes differ.
    """
    digests = {url: read_digest(url) for url in nodes.all}
    if len(set(digests.values())) != 1:
        lines = [f"  {url}  {' '.join(map(str, digest))}" for url, digest in digests.items()]
        raise DemoFailed("the nodes differ (address, offset, keys, digest):\n" + "\n".join(lines))
    return digests[nodes.master]


def read_digest(url: str) -> Digest:
    """Ask one node for its digest, which takes it as long as reading all its data."""
    with Client(url, timeout_seconds=120) as client:
        answer = client.get("/digest")
    return Digest(answer["offset"], answer["keys"], answer["digest"])


def check_samples(nodes: Nodes, packages: Sequence[Package]) -> None:
    """Read some of the records back from every node and compare them with the source.

    Raises:
        DemoFailed: a node has another value.
    """
    step = max(1, len(packages) // SAMPLES)
    for url in nodes.all:
        with Client(url) as client:
            for package in itertools.islice(packages, 0, None, step):
                if json.loads(client.value(package_key(package))) != package:
                    raise DemoFailed(f"{url} has another value for {package_key(package)}")


def demonstrate(nodes: Nodes, packages: Sequence[Package], connections: int) -> Table:
    """Load `packages`, check the whole cluster and return what to print.

    Raises:
        DemoFailed: anything was not as promised.
    """
    with LagWatch(nodes) as lag:
        started = time.monotonic()
        size = load(nodes.master, packages, connections)
        loaded = time.monotonic()
        wait_for_replicas(nodes)
        settled = time.monotonic()
    digest = equal_digest(nodes)
    distinct = len({package_key(package) for package in packages})
    if digest.keys < distinct:
        raise DemoFailed(f"{distinct} keys were acknowledged and the nodes hold {digest.keys}")
    check_samples(nodes, packages)
    rate = len(packages) / (loaded - started)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("nodes with equal digests", str(len(nodes.all)))
    table.add_row("digest", digest.digest)
    table.add_row("offset", f"{digest.offset:,}")
    table.add_row("keys", f"{digest.keys:,}")
    table.add_row("bytes of keys and values", f"{size:,}")
    table.add_row("seconds to load", f"{loaded - started:.1f} ({rate:,.0f} records a second)")
    table.add_row("seconds until every replica had all", f"{settled - started:.1f}")
    table.add_row("largest lag seen", f"{lag.entries:,} entries, {lag.milliseconds:,} ms")
    return table


def load(url: str, packages: Sequence[Package], connections: int) -> int:
    """Write every package to the master behind a progress bar; return the bytes written.

    Raises:
        DemoFailed: a write was not acknowledged.
    """
    columns = (TextColumn("loading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(packages))
        loader = Loader(url, packages, on_written=lambda: progress.advance(task))
        loader.run(connections)
    return sum(len(package_key(each)) + len(stored_text(each).encode()) for each in packages)


def main(
    url: Annotated[
        list[str] | None,
        typer.Option(help="Node of a running cluster: the master first, then each replica."),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=256)] = 16,
) -> None:
    """Load Debian's package lists and prove that every node holds the same."""
    console = Console()
    if url is not None and len(url) < 2:
        raise typer.BadParameter("give the master and at least one replica, each by --url")
    try:
        packages = available_packages()
        if url is None:
            with own_cluster() as nodes:
                table = demonstrate(nodes, packages, connections)
        else:
            table = demonstrate(Nodes(url[0], tuple(url[1:])), packages, connections)
    except (DemoFailed, NoPackages, StartFailed, *_NO_ANSWER) as error:
        Console(stderr=True).print(f"[red]failed:[/red] {error}", highlight=False)
        raise typer.Exit(1) from error
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
