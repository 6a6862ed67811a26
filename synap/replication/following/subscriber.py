"""The replica's side of replication: keeps a link to the master and hands what comes to the rules.

The engine owns the node's log through its `Follower`, which decides; here are the sockets, the
clock and the reconnects. Everything runs on one loop and its thread: appending to the log holds the
loop up for one bounded batch, meanwhile the sockets' queues fill, and beyond those PUB drops, which
the offsets show.

A lost link drops both sockets, so that host names are resolved again; the first retry comes at
once.

Source: docs/protocol.md, "The replica".
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from synap import __version__
from synap.errors import (
    DiskFull,
    MemoryLimit,
    ReplicationError,
    UpstreamOrphaned,
)
from synap.replication.following.link import Link
from synap.replication.following.upstreams import Upstream, Upstreams
from synap.replication.following.way_back import WayBack
from synap.replication.record_asking import Found, RecordAsking
from synap.replication.rules.ancestry import Ancestry
from synap.replication.rules.follower import Follower
from synap.replication.rules.follower_io import FollowerOptions, FollowerStatus, ReplicaLog
from synap.replication.rules.mending import Damage
from synap.replication.rules.messages import Digest
from synap.replication.rules.progress import LinkState, retry_delay_ms
from synap.replication.rules.record_copies import Records, Summed
from synap.replication.rules.resync import Install, Job
from synap.replication.transport.curve import MasterKeys, load_keys
from synap.replication.transport.handshakes import FailedHandshake, HandshakeLog
from synap.replication.transport.reach import look_at
from synap.shared.series import CATCH_UPS, FAILED_HANDSHAKES, FULL_RESYNCS, GAPS, PUT_ASIDE, Count

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)

# Looks at the clock in each expected heartbeat; also how fresh the status is while nothing comes.
_TICKS_PER_HEARTBEAT = 4
_LONGEST_TICK_SECONDS = 0.1
# A link that lived so many heartbeats was a good one: the next retry is the first one again.
_GOOD_LINK_HEARTBEATS = 10

_TROUBLES = frozenset(
    (LinkState.DISCONNECTED, LinkState.DIVERGED, LinkState.SYNCING, LinkState.LAGGING)
)


class StatusBoard(Protocol):
    """Where a subscriber shows how it stands. Nothing here may block."""

    def show_details_next(self) -> None:
        """Have the details be shown with the next status."""

    def show(self, status: FollowerStatus) -> None:
        """Show `status` to the node's other processes; called at every tick and every change."""


class JobTaker(Protocol):
    """Who does the disk's part of a full resync.

    `synap.replication.following.installer.Installer` is one.
    """

    def start(
        self, done: Callable[[Job, bool], None], fail: Callable[[BaseException], None]
    ) -> None:
        """Begin, on the running loop; `done` is told each job's end, `fail` what ends the node."""

    async def stop(self) -> None:
        """End."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs, in their order."""


class Subscriber:
    """The engine. All methods belong to the loop that `run` was called on.

    Attributes:
        name: What `find` asks, for people.
    """

    name = "its master"

    def __init__(
        self,
        config: Config,
        log: ReplicaLog,
        board: StatusBoard,
        *,
        applied_time_ms: int,
        fresh_ns: int = 0,
        count: Count,
        draw: Callable[[], float] = random.random,
        installer: JobTaker | None = None,
        on_peers: Callable[[tuple[str, ...]], None] | None = None,
        on_beat: Callable[[], None] | None = None,
        records: Records | None = None,
        snapshot_ms: Callable[[], int] = int,
    ) -> None:
        """
        Args:
            config: The master's addresses, intervals and bounds; `replication` and `server`.
            log: This node's log, open; the subscriber alone appends to it.
            board: Where the status goes.
            applied_time_ms: The master's wall clock at the log's last frame; 0 on an empty log.
            fresh_ns: When the log last had all that its master had; 0 where nobody knows.
            count: Counts gaps, fetches, full resyncs and failed handshakes.
            draw: Random numbers from [0, 1) for the back-off.
            on_peers: Called where the master has told anew where its replicas would be as masters.
            on_beat: Called after a heartbeat was heard, and what came before it was appended.
            installer: Does the disk's part of a full resync; without it there is none.
            records: The live store, for the master; None where it gets nothing of it.
            snapshot_ms: Tells when this node's newest snapshot was taken; 0 for none.

        Raises:
            ConfigInvalid: The file of the secret key can't be used.
        """
        replication = config.replication
        assert replication.master_address is not None
        assert replication.master_sync_address is not None
        self._replication = replication
        master = Upstream(replication.master_address, replication.master_sync_address)
        self._upstreams = Upstreams(replication.upstream, master)
        # Whose names are ones of IPv6, as far as is known.
        self._ipv6: set[Upstream] = set()
        self._board = board
        self._count = count
        self._log = log
        # Where the log ended when the installer's last job began.
        self._held_offset = 0
        self._draw = draw
        self._follower = Follower(
            log,
            FollowerOptions(
                replica=config.server.node_id,
                url=config.server.own_url,
                heartbeat_interval_ms=replication.heartbeat_interval_ms,
                max_lag_ms=replication.max_lag_ms,
                rejoin_ms=replication.reconnect_delay_ms,
                can_resync=installer is not None,
                # Who follows relays is asked for nothing that a master needs of its replicas.
                sync_address="" if replication.upstream else replication.sync_listen_address,
                votes=not replication.upstream,
                patience_ms=_patience_ms(replication.replica_timeout_secs, self._upstreams),
                version=__version__,
            ),
            applied_time_ms,
            fresh_ns,
            records,
        )
        self._snapshot_ms = snapshot_ms
        self._asking = RecordAsking(self.name, self._ask_record)
        self._tick_seconds = min(
            replication.heartbeat_interval_ms / 1000 / _TICKS_PER_HEARTBEAT, _LONGEST_TICK_SECONDS
        )
        self._installer = installer
        self._peers: tuple[str, ...] = ()
        self._on_peers = on_peers or _tell_nobody
        self._on_beat = on_beat or _do_nothing
        self._beats = 0
        self._keys = load_keys(config)
        self._master_keys = MasterKeys(self._keys)
        self._handshakes = HandshakeLog(f"with the master at {master.stream}")
        self._failure: Exception | None = None
        # One to go back to, which stands before the one that is followed.
        self._nearer: Upstream | None = None
        self._way_back = WayBack(config, self._upstreams, self._go_back)
        # Of those called since the last good link, one that was there and had no master.
        self._orphan: Upstream | None = None
        self._fatal: BaseException | None = None
        self._shown: FollowerStatus | None = None
        self._should_stop = False
        # Set where a wait should end early: on `stop`, and where a link has failed.
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Follow the master until `stop`, reconnecting as often as it takes.

        Raises:
            WalFailed, StoreError: The log is of no more use; the process must end.
        """
        if self._installer is not None:
            self._installer.start(self._job_done, self._job_failed)
        self._way_back.start()
        try:
            await self._follow_for_ever()
        finally:
            await self._way_back.stop()
            if self._installer is not None:
                await self._installer.stop()

    def accept(self) -> None:
        """Take the operator's word that the master's data may replace this diverged replica's.

        Raises:
            NothingToAccept: The replica is not `diverged`, or does not hear its master.
        """
        self._follower.accept(time.monotonic_ns())
        self._wake.set()

    def seal(self) -> None:
        """Acknowledge nothing more to a master that the log's seal has ended."""
        self._follower.seal()

    async def find(self, wanted: Sequence[Damage]) -> Found:
        """Return what the master has of records.

        Raises:
            VerifyFailed: it can't be asked, or does not answer.
        """
        return await self._asking.find(wanted)

    async def summed(self, space: int, after: bytes, until: bytes, limit: int) -> Summed:
        """Return the master's sum over a range; errors as `find`."""

        def ask() -> int | None:
            request = self._follower.ask_digest(space, after, until, limit)
            if request is not None:
                self._link.send_soon()
            return request

        digest = await self._asking.answer(ask)
        assert isinstance(digest, Digest)
        return Summed(digest.offset, digest.records, digest.sum, digest.last)

    def doubt(self, space: int, key: bytes) -> None:
        """Tell the master that this node's log speaks for another record than its own."""
        if self._follower.ask_record(space, key, 0, is_doubted=True) is not None:
            self._link.send_soon()

    def renew(self, why: str) -> bool:
        """Have the master's snapshot replace what this node holds, which is damaged.

        Returns:
            Whether that is under way; it ends with the link, and is to be asked for again then.
        """
        is_begun = self._follower.renew(why, time.monotonic_ns())
        self._wake.set()
        return is_begun

    def ancestry(self) -> Ancestry | None:
        """Return what those that follow this node are told of the nodes above; None for nothing."""
        return self._follower.ancestry(time.monotonic_ns())

    @property
    def upstream(self) -> str:
        """The PUB socket of whom is followed now."""
        return self._upstreams.current.stream

    def _ask_record(self, damage: Damage, at_byte: int) -> int | None:
        request = self._follower.ask_record(damage.space, damage.key, at_byte)
        if request is not None:
            self._link.send_soon()
        return request

    async def _follow_for_ever(self) -> None:
        attempt = -1
        good_seconds = _GOOD_LINK_HEARTBEATS * self._replication.heartbeat_interval_ms / 1000
        while True:
            began = time.monotonic()
            failure = await self._follow()
            if failure is None:
                return
            if self._nearer is not None:
                self._follower.disconnect(f"{self._nearer.stream}, which is nearer, is back")
                self._upstreams.go_to(self._nearer)
                self._nearer = None
                continue
            if self._link.wants_other_key and self._master_keys.turn():
                self._follower.disconnect(failure)
                continue
            if self._link.has_heard_nothing:
                failure = f"{failure}; {await self._why_unheard()}"
            self._master_keys.begin_round()
            is_good = time.monotonic() - began > good_seconds
            attempt = 0 if is_good else attempt + 1
            address = self._upstreams.current.stream
            self._follower.disconnect(f"{address}: {failure}")
            logger.warning(
                "the link to %s is down: %s", address, failure,
                extra={"action": "disconnected", "attempt": attempt},
            )  # fmt: skip
            if not self._go_to_next(is_good=is_good):
                await self._wait_to_retry(attempt)

    def _go_to_next(self, *, is_good: bool) -> bool:
        """Take the next upstream; return False where all were tried, and it is time to wait."""
        upstreams = self._upstreams
        if is_good:
            upstreams.begin_round()
            self._orphan = None
        if isinstance(self._failure, UpstreamOrphaned):
            self._orphan = upstreams.current
        if upstreams.turn():
            return True
        upstreams.begin_round()
        if self._orphan is not None:
            # Nobody hears a master: this one is as good as any, until somebody does again.
            upstreams.go_to(self._orphan)
            self._orphan = None
            self._follower.be_patient()
            return True
        upstreams.turn()
        upstreams.begin_round()
        return False

    def _go_back(self, nearer: Upstream) -> None:
        self._nearer = nearer
        self._wake.set()

    async def _why_unheard(self) -> str:
        """Return what an operator should know of a master that says nothing."""
        looking = asyncio.create_task(look_at(self._upstreams.current.stream))
        looking.add_done_callback(lambda _: self._wake.set())
        while not (looking.done() or self._should_stop):
            await self._pause(self._tick_seconds)
            self._submit()
            self._show()
        if not looking.done():
            looking.cancel()
            return "the node stops"
        reach = looking.result()
        if reach.is_ipv6:
            self._ipv6.add(self._upstreams.current)
        return reach.problem or (
            "it takes connections and says nothing: a stopped master, or another port than its "
            "replication.replica_listen_address"
        )

    def stop(self) -> None:
        """Have `run` return soon; what is appended stays, the rest is fetched the next time."""
        self._should_stop = True
        self._wake.set()

    async def _follow(self) -> str | None:
        """Follow on one link; return why it ended, or None where `stop` was called."""
        link = self._link = Link(
            self._follower, self._settled, self._wake.set, self._note_handshake, self._master_keys
        )
        try:
            link.open(
                *self._upstreams.current,
                self._replication.buffer_size_kb * 1024,
                self._keys,
                is_ipv6=self._upstreams.current in self._ipv6,
            )
            while not self._should_stop:
                await self._pause(self._tick_seconds)
                if self._nearer is not None:
                    return ""
                if self._fatal is not None:
                    raise self._fatal
                self._follower.snapshot_ms = self._snapshot_ms()
                link.tick()
                self._submit()
        except (ReplicationError, DiskFull, MemoryLimit) as error:
            self._failure = error
            return f"{error}; {link.hint}" if link.hint else str(error)
        finally:
            link.close()
        return None

    async def _wait_to_retry(self, attempt: int) -> None:
        """Wait as long as the back-off says, or for `stop`; the board is kept fresh."""
        delay_ms = retry_delay_ms(attempt, self._replication.reconnect_delay_ms, self._draw())
        deadline = time.monotonic() + delay_ms / 1000
        while not self._should_stop:
            if self._fatal is not None:
                raise self._fatal
            self._submit()
            self._show()
            left_seconds = deadline - time.monotonic()
            if not self._replication.auto_reconnect:
                left_seconds = self._tick_seconds
            if left_seconds <= 0:
                return
            await self._pause(min(left_seconds, self._tick_seconds))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    def _settled(self) -> None:
        if self._follower.pieces:
            for piece in self._follower.pieces:
                self._asking.hear(piece)
            self._follower.pieces.clear()
        self._submit()
        if self._follower.peers != self._peers:
            self._peers = self._follower.peers
            self._on_peers(self._peers)
        if self._follower.beats != self._beats:
            self._beats = self._follower.beats
            self._on_beat()
        self._show()

    def _note_handshake(self, failed: FailedHandshake) -> None:
        self._handshakes.note(failed)
        self._count(FAILED_HANDSHAKES)

    def _submit(self) -> None:
        jobs = self._follower.jobs
        if jobs and self._installer is not None:
            # Nothing is appended from here to the job's end.
            self._held_offset = self._log.position.offset
            self._installer.submit(jobs)
            jobs.clear()

    def _job_done(self, job: Job, is_good: bool) -> None:
        self._follower.done(job, is_good, time.monotonic_ns())
        if isinstance(job, Install) and is_good:
            self._count(FULL_RESYNCS)
            kept_after = job.switch.kept_after
            if kept_after is not None and self._held_offset > kept_after:
                self._count(PUT_ASIDE, self._held_offset - kept_after)
            # HTTP workers reopen by what the board shows.
            self._show()
        self._link.send_soon()

    def _job_failed(self, error: BaseException) -> None:
        self._fatal = error
        self._wake.set()

    def show_details(self) -> None:
        """Show what the status endpoints tell, which is shown now and then anyway."""
        self._board.show_details_next()
        self._show()

    def _show(self) -> None:
        status = self._follower.status(time.monotonic_ns())
        shown, self._shown = self._shown, status
        if shown is None or (shown.state, shown.note) != (status.state, status.note):
            _tell(status)
            was_behind = shown is not None and shown.state is LinkState.CATCHING_UP
            if status.state is LinkState.CATCHING_UP and not was_behind:
                self._count(CATCH_UPS)
        if self._follower.gaps:
            self._count(GAPS, self._follower.gaps)
            self._follower.gaps = 0
        self._board.show(status)


def _tell(status: FollowerStatus) -> None:
    level = logging.WARNING if status.state in _TROUBLES else logging.INFO
    logger.log(
        level,
        "replica is %s at offset %d of %d%s",
        status.state,
        status.position.offset,
        status.master_offset,
        f": {status.note}" if status.note else "",
        extra={
            "action": status.reason or status.state.value,
            "offset": status.position.offset,
            "epoch": status.epoch,
        },
    )


def _patience_ms(timeout_secs: int, upstreams: Upstreams) -> int:
    """Return how long a relay may be without a master; 0 for ever, where there is no other."""
    return timeout_secs * 1000 if len(upstreams) > 1 else 0


def _do_nothing() -> None:
    """Nobody follows this node."""


def _tell_nobody(peers: tuple[str, ...]) -> None:
    """Keep no addresses."""
