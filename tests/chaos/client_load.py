"""A load by the Python client, which nothing may make lose or double a write.

Clients with and without asyncio count, write keys and read them back, and one watches the counter.
Every write waits for a replica.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from synap_client import AsyncClient, Change, Client, KeySet, Options, Synced, Watched

from tests.support import HOST, Cluster, Node, eventually
from tests.system.test_roles import SECONDS

THREADS = 3
TASKS = 3
# So many things are counted between two faults.
THINGS_A_ROUND = 40
COUNTER, END = "counter", "end"


class Load:
    """What the clients did, and what they saw.

    Attributes:
        counted: What each increment was answered.
        written: The keys whose write was answered; each holds its name.
        missed: Keys that their writer did not read.
        watched: The values of the counter that the watcher saw.
        errors: What any of them raised.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.counted: list[int] = []
        self.written: list[str] = []
        self.missed: list[str] = []
        self.watched: list[int] = []
        self.errors: list[Exception] = []
        self._urls = [f"http://{HOST}:{node.port}" for node in cluster.nodes]
        # A busy machine takes long to start the processes of a node.
        self._options = Options(deadline_seconds=2 * SECONDS, min_replicas=1)
        self._is_over = threading.Event()
        self._is_watching = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load the cluster meanwhile; at the end, wait until all has been answered and seen."""
        watcher = threading.Thread(target=self._guarded, args=(self._watch,))
        watcher.start()
        assert self._is_watching.wait(SECONDS)
        writers = [
            threading.Thread(target=self._guarded, args=(lambda n=n: self._write(n),))
            for n in range(THREADS)
        ]
        writers.append(threading.Thread(target=self._guarded, args=(self._write_in_tasks,)))
        for each in writers:
            each.start()
        try:
            yield
        finally:
            self._is_over.set()
            for each in writers:
                each.join()
            with Client(self._urls, self._options) as client:
                client.set(END, 1)
            watcher.join(2 * SECONDS)
        assert not watcher.is_alive()

    def await_more(self) -> None:
        """Wait until so many things more are counted as there are between two faults."""
        wanted = len(self.counted) + THINGS_A_ROUND
        eventually(lambda: len(self.counted) >= wanted or self.errors, SECONDS)
        assert self.errors == []

    def check(self, master: Node) -> None:
        """Raise where something was lost, counted twice, or not seen."""
        assert self.errors == []
        with Client([f"http://{HOST}:{master.port}"]) as client:
            counter = int(client.get(COUNTER) or 0)
            assert client.mget(self.written) == self.written
        assert sorted(self.counted) == list(range(1, counter + 1))
        assert self.watched == list(range(1, counter + 1))
        assert self.missed == []

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            self.errors.append(error)

    def _write(self, number: int) -> None:
        with Client(self._urls, self._options) as client:
            thing = 0
            while not self._is_over.is_set():
                thing += 1
                self.counted.append(client.incr(COUNTER))
                key = f"{number}:{thing}"
                client.set(key, key)
                self._note(key, client.get(key))

    def _write_in_tasks(self) -> None:
        async def write(number: int, client: AsyncClient) -> None:
            thing = 0
            while not self._is_over.is_set():
                thing += 1
                self.counted.append(await client.incr(COUNTER))
                key = f"task {number}:{thing}"
                await client.set(key, key)
                self._note(key, await client.get(key))

        async def write_all() -> None:
            async with AsyncClient(self._urls, self._options) as client, asyncio.TaskGroup() as all:
                for number in range(TASKS):
                    all.create_task(write(number, client))

        asyncio.run(write_all())

    def _note(self, key: str, found: str | None) -> None:
        self.written.append(key)
        if found != key:
            self.missed.append(key)

    def _watch(self) -> None:
        # What replicas hold outlives the master: so there is no reset.
        watched = Watched(keys=[COUNTER, END], min_replicas=1)
        with Client(self._urls, self._options) as client:
            for event in client.watch(watched, initial=True):
                if isinstance(event, Synced):
                    self._is_watching.set()
                if isinstance(event, Change) and self._see(event):
                    return

    def _see(self, event: Change) -> bool:
        sets = [each for each in event.changes if isinstance(each, KeySet)]
        self.watched += [int(each.data or b"") for each in sets if each.key == COUNTER]
        return any(each.key == END for each in sets)
