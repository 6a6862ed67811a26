"""This worker's share of its node: the store for reading, the board, the counters.

The store's generation changes when a full resync has received another one. The board says so, and
the next request opens the new generation before the old one is let go: none fails. Reading threads
hold the reader that they began with until they end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import msgspec

from synap.errors import (
    NO_LONGER_MASTER,
    DiskFull,
    MemoryLimit,
    NotCaughtUp,
    PositionLost,
    ReadOnlyReplica,
    ReadRefused,
    ReignEnded,
    Starting,
    StoreDamaged,
    StoreError,
    SynapError,
    Syncing,
)
from synap.eviction.access_table import AccessTable
from synap.eviction.rules import POLICIES
from synap.ipc.admin_messages import ReportDamage
from synap.ipc.admin_socket import ask
from synap.node.paths import NodePaths
from synap.node.suspicion import note_met
from synap.place import NO_REIGNS, LogEnd, Place, Reigns, Standing, standing
from synap.replication.rules.lag import lag_ms
from synap.replication.rules.progress import LinkState
from synap.request_errors import RecordCorrupt
from synap.service.known_lineages import KnownLineages
from synap.service.rates import Rates
from synap.service.store_watch import State, StoreWatch
from synap.shared.accounts_version import AccountsVersion
from synap.shared.board import Board, BoardView, NodeDetails
from synap.shared.counters import Counters, read_counters
from synap.shared.node_clock import CLOCK
from synap.shared.series import Series
from synap.shared.slow_log import SlowLog
from synap.store import StoreReader

if TYPE_CHECKING:
    from synap.config.keys import Config

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")

# Long reads (digest, wide scans) at once; more would only take turns at the interpreter.
_READING_THREADS = 2
# Damaged records that are reported at once at most, and how long the owner may take to hear.
_MAX_DAMAGED = 1000
_REPORT_SECONDS = 5.0
# What `BoardView.read_only` says of a master that is one beyond doubt.
_STILL_REIGNING = ("", DiskFull.reason, MemoryLimit.reason)


class LocalNode:
    """What one HTTP worker has open of its node.

    All methods belong to the event loop of the worker, and to the process that called `start`.

    Attributes:
        config: The node's configuration.
        paths: Where its files are.
        accounts: Tells when the node's accounts change.
        counts: This worker's row of counters, by `Counter`. Add to it in place.
        series: This worker's part of the node's metrics.
        slow_log: This worker's part of the slow log.
        rates: How often things happen on the node.
        is_replica: Whether the store that `reader` last returned was a replica's.
        touch: Marks a use of a key, where the node evicts by uses; else None. A replica evicts
            nothing by itself.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paths = NodePaths.of(config)
        self.is_replica = False
        self.touch: Callable[[bytes], None] | None = None
        self._access: AccessTable | None = None
        self._read_wait_seconds = config.replication.read_wait_ms / 1000
        self._reader: StoreReader | None = None
        self._seen: BoardView | None = None
        self._leases: Tally[StoreReader] = Tally()
        # Keys of damaged records that are being reported.
        self._damaged: set[bytes] = set()
        self._reporting: asyncio.Task[None] | None = None
        self._lineages = KnownLineages(self.paths.node_file)
        # What `reigns` returned last.
        self._reigns = NO_REIGNS
        self._store_watch = StoreWatch(self._watched)

    def start(self) -> None:
        """Open what the node's other processes share; the store is opened when it is there."""
        self.paths.create()
        self._board = Board(self.paths.board_file)
        CLOCK.follow(self._board.clock)
        self.accounts = AccountsVersion(self.paths.accounts_file)
        self._counters = Counters(self.paths.run_dir)
        self.series = Series(self.paths.run_dir)
        self.slow_log = SlowLog(self.paths.run_dir)
        self.rates = Rates(self.totals)
        self.rates.start()
        kv_store = self.config.kv_store
        self._access = AccessTable.of(
            POLICIES[kv_store.eviction_policy],
            self.paths.run_dir,
            kv_store.max_memory_mb * 1024 * 1024,
        )
        self._threads = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="reading")
        self.counts = self._counters.row

    def close(self) -> None:
        """Let go of everything, long reads last."""
        self.rates.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for reader in {*self._leases, self._reader}:
            if reader is not None:
                reader.close()
        self._counters.close()
        self.accounts.close()
        self.series.close()
        self.slow_log.close()
        CLOCK.forget(self._board.clock)
        self._board.close()
        self.touch = None
        if self._access is not None:
            self._access.close()

    @property
    def view(self) -> BoardView:
        """What the log's owner shows now."""
        return self._board.view()

    @property
    def details(self) -> NodeDetails:
        """What the log's owner tells for the status endpoints."""
        return self._board.details()

    @property
    def role(self) -> str:
        """The node's role; the configured one until the log's owner has started."""
        return self._board.view().role or self.config.replication.role

    @property
    def master_url(self) -> str | None:
        """Where writes go instead; None where that is not known."""
        return self._board.view().master_url or None

    @property
    def heir_url(self) -> str:
        """Where the master is that reigns in this one's place; empty where that is not known."""
        url = self._board.view().master_url
        return "" if url == self.config.server.own_url else url

    @property
    def draining(self) -> bool:
        """Whether the node is about to stop, and wants its clients to go elsewhere."""
        return self._board.is_draining

    def write_refusal(self) -> ReadOnlyReplica | None:
        """Say why a write that waits for this node's writer waits in vain; None where it may not.

        A master that stepped down, or is a replica by now, has none, and says so as soon as it
        knows where writes go.
        """
        view = self._board.view()
        is_over = view.role == "replica" or view.read_only == ReignEnded.reason
        knows_master = view.master_url and view.master_url != self.config.server.own_url
        return ReadOnlyReplica(NO_LONGER_MASTER) if is_over and knows_master else None

    def failover(self) -> dict[str, object] | None:
        """Return what the fail-over agent tells; None on a node without one.

        Empty while it has not told anything yet.
        """
        if self.config.failover.engine == "none":
            return None
        try:
            found = msgspec.json.decode(self.paths.failover_file.read_bytes())
        except (OSError, msgspec.DecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def report_damage(self, error: RecordCorrupt | StoreDamaged) -> None:
        """Have the log's owner mend what was found damaged, a record or pages; returns at once."""
        if isinstance(error, StoreDamaged):
            note_met(self.paths, error.generation, f"a read met it: {error.message}")
            return
        # One that the owner found itself comes without its key.
        key = getattr(error, "key", None)
        if key is None or len(self._damaged) >= _MAX_DAMAGED:
            return
        self._damaged.add(key)
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report())

    async def _report(self) -> None:
        while self._damaged:
            keys = list(self._damaged)
            with suppress(SynapError):
                await ask(self.paths.admin_socket, ReportDamage(keys), _REPORT_SECONDS)
            # Where the owner does not run, the next read reports it again.
            self._damaged.difference_update(keys)

    def lag_ms(self) -> int:
        """Return how old a replica's data may be."""
        view = self._board.view()
        return lag_ms(time.monotonic_ns(), view.lag_since_ns, view.fresh_ns, view.heartbeat_ns)

    def totals(self) -> list[int]:
        """Return the counts over all workers of the node, by `Counter`."""
        return read_counters(self.paths.run_dir)

    def reader(self) -> StoreReader:
        """Return the live store for reading.

        Raises:
            Syncing: this replica has not finished its first synchronisation.
            Starting: there is no store yet.
        """
        view = self._board.view()
        if view is not self._seen or self._reader is None:
            return self._look(view)
        return self._reader

    def applied_offset(self) -> int:
        """Return the last offset in the store; what the board said last while it can't be read."""
        return self.applied_end().offset

    def applied_end(self) -> LogEnd:
        """Return where the log ends in the store; see `applied_offset`."""
        try:
            return self.reader().applied().end
        except ReadRefused:
            return self.own_end(self._board.view().applied_offset)

    def own_end(self, offset: int) -> LogEnd:
        """Return an end of the node's log that the owner of the log tells by its offset."""
        return LogEnd(offset, self._board.view().history)

    def reigns(self, history: bytes) -> Reigns:
        """Return the lineage up to the reign of `history`; NO_REIGNS where it can't be known.

        A reign names all before it, whatever came after: so what the store says of its last entry
        tells who wrote all others, also where the node's lineage has just become another one.
        """
        known = self._reigns
        if known.history != history:
            known = self._reigns = self._lineages.until(history, self._board.view())
        return known

    async def read_in_thread(
        self,
        read: Callable[Concatenate[StoreReader, Arguments], Found],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Found:
        """Return `read(reader, …)`, called beside the event loop.

        Raises:
            ReadRefused: as `reader` does.
        """
        loop = asyncio.get_running_loop()
        reader = self.reader()
        self._leases[reader] += 1
        # On the thread's own future: it ends with the thread, also where the request is cancelled.
        job = self._threads.submit(read, reader, *args, **kwargs)
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self.give_back, reader))
        return await asyncio.wrap_future(job)

    async def in_thread(self, call: Callable[[], Found]) -> Found:
        """Return `call()`, called beside the event loop."""
        return await asyncio.wrap_future(self._threads.submit(call))

    def borrow(self) -> StoreReader:
        """Return the live store for reading, for longer than a call; `give_back` ends that.

        Raises:
            ReadRefused: as `reader` does.
        """
        reader = self.reader()
        self._leases[reader] += 1
        return reader

    async def wait_applied(self, offset: int) -> None:
        """Wait until the store holds `offset`.

        Raises:
            NotCaughtUp: it did not within replication.read_wait_ms.
        """
        deadline = time.monotonic() + self._read_wait_seconds
        while (applied := self.reader().applied().position.offset) < offset:
            if time.monotonic() >= deadline:
                raise NotCaughtUp(
                    f"this node has applied offset {applied}, not {offset}; "
                    "try again, or ask the master"
                )
            await self._store_watch.wait(offset, deadline - time.monotonic())

    async def wait_place(self, place: Place) -> None:
        """Wait until the store holds the entry that `place` names, and no other one in its stead.

        Raises:
            PositionLost: it never will: the entry is no part of this node's log.
            NotCaughtUp: it did not within replication.read_wait_ms.
        """
        began_ns = time.monotonic_ns()
        deadline_ns = began_ns + int(self._read_wait_seconds * 1e9)
        while True:
            end, found = self._standing(place)
            if found is Standing.REACHED:
                return
            is_over = time.monotonic_ns() >= deadline_ns
            if found is Standing.LOST or (
                found is Standing.UNKNOWN and self._knows_all_reigns(began_ns, is_over)
            ):
                raise PositionLost(f"{place} is no part of this node's log: the write is lost")
            if is_over:
                raise NotCaughtUp(
                    f"this node has applied {self.reigns(end.history).token(end.offset)}, "
                    f"not {place}; try again, or ask the master"
                )
            # What is behind the end already, and not known, only other words on the lineage decide.
            offset = place.offset if place.offset > end.offset else None
            await self._store_watch.wait(offset, (deadline_ns - time.monotonic_ns()) / 1e9)

    def _watched(self) -> State:
        """Return what decides over a read that waits for a place: see `_standing`."""
        end = self.reader().applied().end
        view = self._board.view()
        return end.offset, (end.history, view.history, view.role, view.read_only)

    def has_reached(self, place: Place) -> bool:
        """Say whether the store holds the entry that `place` names now."""
        return self._standing(place)[1] is Standing.REACHED

    def _standing(self, place: Place) -> tuple[LogEnd, Standing]:
        end = self.reader().end()
        newest = self.reigns(self._board.view().history)
        return end, standing(place, end, self.reigns(end.history), newest)

    def _knows_all_reigns(self, since_ns: int, is_over: bool) -> bool:
        """Say whether a reign that this node does not know is none that it is to hear of.

        Args:
            since_ns: When (CLOCK_MONOTONIC) it was first asked for.
            is_over: Whether the time to hear of it is over.
        """
        view = self._board.view()
        if view.role != "replica":
            # Whatever else keeps a master from writing may be that there is another one.
            return view.read_only in _STILL_REIGNING
        is_heard = view.status == LinkState.IN_SYNC and view.last_contact_ns > since_ns
        return is_over and is_heard

    def _look(self, view: BoardView) -> StoreReader:
        if view.role == "replica" and not view.first_sync_done:
            raise Syncing
        if not view.role:
            raise Starting
        if self._reader is None or self._reader.generation != view.generation:
            self._reopen()
        self._seen = view
        self.is_replica = view.role == "replica"
        self.touch = None if self._access is None or self.is_replica else self._access.touch
        assert self._reader is not None
        return self._reader

    def _reopen(self) -> None:
        old = self._reader
        try:
            self._reader = StoreReader.open(self.paths.store_dir)
        except StoreError as error:
            if old is None:
                raise Starting from error
            return
        if old is not None and not self._leases[old]:
            old.close()

    def give_back(self, reader: StoreReader) -> None:
        """End what `borrow` began."""
        self._leases[reader] -= 1
        if not self._leases[reader]:
            del self._leases[reader]
            if reader is not self._reader:
                reader.close()
