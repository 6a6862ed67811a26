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
from functools import partial
from typing import TYPE_CHECKING, Protocol

from synap.errors import DiskFull, HandshakeFailed, LinkLost, MemoryLimit, ReplicationError
from synap.replication.record_asking import Found, RecordAsking
from synap.replication.rules import messages
from synap.replication.rules.follower import Follower
from synap.replication.rules.follower_io import FollowerOptions, FollowerStatus, ReplicaLog
from synap.replication.rules.mending import Damage
from synap.replication.rules.messages import Digest
from synap.replication.rules.pace import Pace
from synap.replication.rules.progress import LinkState, retry_delay_ms
from synap.replication.rules.record_copies import Records, Summed
from synap.replication.rules.resync import Install, Job
from synap.replication.transport.curve import Keys, MasterKeys, load_keys
from synap.replication.transport.handshakes import FailedHandshake, HandshakeLog
from synap.replication.transport.reach import look_at
from synap.replication.transport.sockets import Endpoint, Sockets
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
        records: Records | None = None,
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
            installer: Does the disk's part of a full resync; without it there is none.
            records: The live store, for the master; None where it gets nothing of it.

        Raises:
            ConfigInvalid: The file of the secret key can't be used.
        """
        replication = config.replication
        assert replication.master_address is not None
        assert replication.master_sync_address is not None
        self._replication = replication
        self._stream_address = replication.master_address
        self._sync_address = replication.master_sync_address
        # Whether the master's name is one of IPv6, as far as is known.
        self._is_ipv6 = False
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
                sync_address=replication.sync_listen_address,
            ),
            applied_time_ms,
            fresh_ns,
            records,
        )
        self._asking = RecordAsking(self.name, self._ask_record)
        self._tick_seconds = min(
            replication.heartbeat_interval_ms / 1000 / _TICKS_PER_HEARTBEAT, _LONGEST_TICK_SECONDS
        )
        self._installer = installer
        self._peers: tuple[str, ...] = ()
        self._on_peers = on_peers or _tell_nobody
        self._keys = load_keys(config)
        self._master_keys = MasterKeys(self._keys)
        self._handshakes = HandshakeLog(f"with the master at {self._stream_address}")
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
        if self._installer is None:
            await self._follow_for_ever()
            return
        self._installer.start(self._job_done, self._job_failed)
        try:
            await self._follow_for_ever()
        finally:
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
            if self._link.wants_other_key and self._master_keys.turn():
                self._follower.disconnect(failure)
                continue
            if self._link.has_heard_nothing and not self._link.hint:
                failure = f"{failure}; {await self._why_unheard()}"
            self._master_keys.begin_round()
            attempt = 0 if time.monotonic() - began > good_seconds else attempt + 1
            self._follower.disconnect(f"{self._stream_address}: {failure}")
            logger.warning(
                "the link to %s is down: %s", self._stream_address, failure,
                extra={"action": "disconnected", "attempt": attempt},
            )  # fmt: skip
            await self._wait_to_retry(attempt)

    async def _why_unheard(self) -> str:
        """Return what an operator should know of a master that says nothing."""
        looking = asyncio.create_task(look_at(self._stream_address))
        looking.add_done_callback(lambda _: self._wake.set())
        while not (looking.done() or self._should_stop):
            await self._pause(self._tick_seconds)
            self._submit()
            self._show()
        if not looking.done():
            looking.cancel()
            return "the node stops"
        reach = looking.result()
        self._is_ipv6 = reach.is_ipv6
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
        link = self._link = _Link(
            self._follower, self._settled, self._wake.set, self._note_handshake, self._master_keys
        )
        try:
            link.open(
                self._stream_address,
                self._sync_address,
                self._replication.buffer_size_kb * 1024,
                self._keys,
                is_ipv6=self._is_ipv6,
            )
            while not self._should_stop:
                await self._pause(self._tick_seconds)
                if self._fatal is not None:
                    raise self._fatal
                link.tick()
                self._submit()
        except (ReplicationError, DiskFull, MemoryLimit) as error:
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


class _Link:
    """One pair of sockets, from their connecting to their end.

    Attributes:
        hint: Why nothing may be heard, where a handshake told; empty otherwise.
        wants_other_key: The link failed because the master has another key than the current one.
        has_heard_nothing: Not one message has come.
    """

    def __init__(
        self,
        follower: Follower,
        show: Callable[[], None],
        wake: Callable[[], None],
        note_handshake: Callable[[FailedHandshake], None],
        master_keys: MasterKeys,
    ) -> None:
        """
        Args:
            follower: Decides what to do with what arrives.
            show: Called when that may have changed the status.
            wake: Called when the link has failed; the next `tick` says why.
            note_handshake: Told of each that failed.
            master_keys: The master's key is the current one of these, or another one.
        """
        self.hint = ""
        self.wants_other_key = False
        self.has_heard_nothing = True
        self._note_handshake = note_handshake
        self._master_keys = master_keys
        self._follower = follower
        self._show = show
        self._wake = wake
        self._failure: Exception | None = None
        self._sockets: Sockets | None = None
        self._pace = Pace()
        self._gathering: asyncio.TimerHandle | None = None

    def open(
        self,
        stream_address: str,
        sync_address: str,
        buffer_bytes: int,
        keys: Keys | None,
        *,
        is_ipv6: bool,
    ) -> None:
        """Connect.

        Args:
            is_ipv6: Whether names stand for addresses of IPv6.

        Raises:
            ReplicationError: An address can't be used.
        """
        self._sockets = Sockets(buffer_bytes, keys, self._handshake_failed, self._was_cut)
        self._follower.connect(time.monotonic_ns())
        key = self._master_keys.current
        self._sync: Endpoint = self._sockets.connect_sync(
            sync_address, partial(self._take, self._receive), self._settle_in_time, key,
            is_ipv6=is_ipv6,
        )  # fmt: skip
        self._stream: Endpoint = self._sockets.connect_stream(
            stream_address, partial(self._take, self._hear), self._settle_in_time, key,
            is_ipv6=is_ipv6,
        )  # fmt: skip
        self._sockets.keep_doors()

    def tick(self) -> None:
        """Look at the clock, after everything at hand was read: a held-up loop is no silence.

        Raises:
            ReplicationError: The link has failed.
            SynapError: The log has.
        """
        self._stream.drain()
        self._sync.drain()
        if self._failure is not None:
            raise self._failure
        self._follower.tick(time.monotonic_ns())
        self._flush()
        self._show()

    def send_soon(self) -> None:
        """Send what the follower wants to say now; nothing where the link is down."""
        self._guard(self._flush)

    def close(self) -> None:
        """Drop both sockets."""
        self._stop_gathering()
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    def _handshake_failed(self, failed: FailedHandshake) -> None:
        self._note_handshake(failed)
        if self._failure is not None:
            return
        self.hint = failed.reason
        self.wants_other_key = failed.is_other_key and self._master_keys.has_others
        if failed.is_final or self.wants_other_key:
            self.hint = ""
            self._failure = HandshakeFailed(failed.reason)
            self._wake()

    def _was_cut(self, why: str) -> None:
        if self._failure is None:
            self._failure = LinkLost(f"the master was cut off: {why}")
            self._wake()

    def _take(self, handle: Callable[[list[bytes], int], None], parts: list[bytes], _: str) -> None:
        self.hint = ""
        self.has_heard_nothing = False
        self._guard(partial(handle, parts, time.monotonic_ns()))

    def _hear(self, parts: list[bytes], now_ns: int) -> None:
        self._follower.hear(*messages.stream.decode(parts), now_ns)

    def _receive(self, parts: list[bytes], now_ns: int) -> None:
        self._follower.receive(*messages.answers.decode(parts), now_ns)

    def _settle_in_time(self) -> None:
        """Settle now, or when enough was gathered; what the master waits for leaves at once."""
        wait_seconds = self._pace.wait_seconds(time.monotonic())
        if self._follower.outbox or not wait_seconds:
            self._settle()
        elif self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(wait_seconds, self._settle)

    def _settle(self) -> None:
        self._stop_gathering()
        began = time.monotonic()
        self._guard(self._settle_all)
        self._pace.appended(began, time.monotonic())

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _settle_all(self) -> None:
        if self._follower.settle(time.monotonic_ns()):
            asyncio.get_running_loop().call_soon(self._settle)
        self._flush()
        self._show()

    def _flush(self) -> None:
        outbox = self._follower.outbox
        for request in outbox:
            self._sync.send(messages.encode(request))
        outbox.clear()

    def _guard(self, step: Callable[[], None]) -> None:
        # A callback of the loop has nobody to raise to, so `tick` does it.
        if self._failure is not None or self._sockets is None:
            return
        try:
            step()
        except Exception as error:
            self._failure = error
            self._wake()


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


def _tell_nobody(peers: tuple[str, ...]) -> None:
    """Keep no addresses."""
