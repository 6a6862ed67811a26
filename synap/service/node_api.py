"""What a client may ask of this node, as typed calls.

Every entry point goes through here, so that the REST resources and whatever else speaks to clients
agree. A write is a command (see `synap.commands.commands`) handed to the log's owner. A read looks
into the store and comes with the end of the log that it saw; all reads of one call see one state of
the store.

This is also where it is decided what a caller may do: each call takes the caller first, so that no
entry point can forget to say who asks. Nothing here knows HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from synap.auth.permissions import Caller
from synap.commands.commands import Command
from synap.commands.confirm import Confirm
from synap.commands.keys import Delete, Flush
from synap.commands.once import (
    Once,
    Replayed,
    RequestKey,
    WithoutResult,
    record_key,
)
from synap.commands.records import (
    MAX_KEY_BYTES,
    Record,
    check_key,
    check_keys,
    is_live,
    ttl_seconds,
)
from synap.commands.request_records import RequestRecord, decode_record
from synap.commands.strings import Increment, Set, SetResult
from synap.commands.transactions import (
    Discard,
    Exec,
    Pending,
    PendingNeeds,
    Queue,
    TransactionCommand,
    Watch,
)
from synap.errors import (
    NoLease,
    NotHeld,
    OutcomeUnknown,
    QuorumTimeout,
    ReadOnlyReplica,
    SlotElsewhere,
)
from synap.ipc.admin_messages import (
    AcceptMaster,
    AdminCommand,
    AdminResult,
    ConfirmClock,
    Follow,
    ForgetReplica,
    PauseWrites,
    Promote,
    ResumeWrites,
    Seal,
    StepDown,
    TakeSnapshot,
    VerifyStore,
)
from synap.ipc.admin_socket import ask
from synap.ipc.writer_client import MAX_WAITING, Done, Waiter, WriterClient
from synap.place import LogEnd, Place
from synap.position import NO_HISTORY
from synap.request_errors import (
    AnswerTooLarge,
    CommandDisabled,
    CrossSlot,
    Forbidden,
    InvalidRequest,
    KeyNotFound,
)
from synap.service.local_node import LocalNode
from synap.service.waits import Waits
from synap.service.wide_reads import WideReads
from synap.shared.board import is_alone
from synap.shared.counters import Counter
from synap.shared.node_clock import now_ms
from synap.shared.series import REPLAYS
from synap.shares import Holder
from synap.store import StoreReader

# Reads of more keys than this are done beside the event loop: about a millisecond on it.
_MANY_KEYS = 500
# What permissions call the operator's work, as the routes do.
_WORK: dict[type[AdminCommand], bytes] = {
    TakeSnapshot: b"snapshot",
    VerifyStore: b"verify",
    Promote: b"promote",
    Seal: b"seal",
    Follow: b"follow",
    AcceptMaster: b"accept",
    PauseWrites: b"pause",
    ResumeWrites: b"resume",
    StepDown: b"step-down",
    ConfirmClock: b"confirm",
    ForgetReplica: b"forget",
}
# Requests of all workers that wait for replicas: as many as the log's owner keeps. Each worker has
# a part of them, which is not below this.
_ALL_QUORUM_WAITS = 65_536
_LEAST_QUORUM_WAITS = 2048
QUEUED_WITH_KEY = (
    "Idempotency-Key goes with what changes keys: of a transaction with its exec, and not with "
    "what it queues or watches"
)
# Errors of writes that may have happened.
_OUTCOME_OPEN = (OutcomeUnknown, QuorumTimeout)
# While no more writes than this wait on a worker, nobody asks whose they are.
_MOST_UNSHARED = 512
# What the store keeps beside a value, at most.
_STORED_WITH_VALUE_BYTES = 64

_HITS, _MISSES = int(Counter.HITS), int(Counter.MISSES)
_SETS, _DELS = int(Counter.SETS), int(Counter.DELS)


class NodeApi(WideReads):
    """The calls, on one node. Each of them raises Forbidden where the caller may not."""

    def __init__(self, node: LocalNode, client: WriterClient) -> None:
        super().__init__(node)
        self._client = client
        config = node.config
        replication = config.replication
        self._read_replicas = replication.min_replicas_to_write if replication.read_held else 0
        self._max_answer_bytes: int = max(
            config.server.max_answer_bytes,
            config.kv_store.max_value_size_bytes + _STORED_WITH_VALUE_BYTES,
        )
        self._always_waits = config.replication.min_replicas_to_write > 0
        self._quorum = config.replication.min_replicas_to_write
        self._has_engine = config.failover.engine != "none"
        # What waits on this worker. A read that does keeps a place of its own, of a batch's writes
        # many share one.
        self._reads = Waits("reads that wait for a position", config.server.max_connections)
        self._writes = Waits("writes that wait", MAX_WAITING)
        part = _ALL_QUORUM_WAITS // config.server.workers
        self._quorum_waits = Waits(
            "reads and writes that wait for replicas",
            min(max(part, _LEAST_QUORUM_WAITS), MAX_WAITING),
        )

    @property
    def max_answer_bytes(self) -> int:
        """The most that one answer may hold of values: the largest value fits in any case."""
        return self._max_answer_bytes

    async def write(
        self,
        caller: Caller,
        command: Command,
        min_replicas: int = 0,
        client_id: str | None = None,
        *,
        holder: Holder,
        request: RequestKey | None = None,
    ) -> Done:
        """Have the log's owner carry out `command`.

        Args:
            caller: Who asks.
            command: What to do.
            min_replicas: Replicas that must hold it before this returns; the configuration may ask
                for more.
            client_id: The client whose open transaction it is for; the result is then Queued. For
                Set, Delete and Increment alone.
            holder: For whom it counts while it waits, and what it leaves open.
            request: What the client calls the request, which takes effect once then. The result
                may be WithoutResult.

        Raises:
            IdempotencyKeyReused, IdempotencyFull: of a request that has such a key.
            ReadOnlyReplica: this node is a replica; nothing changed.
            InvalidRequest: replicas are asked for, and this node can't have any.
            TransactionLost: the client has no transaction open.
            CommandDisabled: the configuration does not allow it.
            CommandError, WriteRefused: as WriterClient.execute.
        """
        if caller.is_limited:
            caller.require_for(command)
        if isinstance(command, Flush):
            self._require_flush()
        if client_id is None:
            return await self._execute(
                _once(caller, command, request, holder), min_replicas, holder
            )
        if request is not None:
            raise InvalidRequest(QUEUED_WITH_KEY)
        assert isinstance(command, Set | Delete | Increment), "only these are queued"
        queued = Queue(_owner(caller, client_id), command, holder=holder)
        return await self._execute(queued, min_replicas, holder)

    async def transact(
        self,
        caller: Caller,
        command: TransactionCommand,
        min_replicas: int = 0,
        *,
        holder: Holder,
        request: RequestKey | None = None,
    ) -> Done:
        """Open, end, carry out or guard the caller's transaction.

        What is carried out is looked at once more: since it was queued, the caller may have lost
        what it needs. It is then discarded.

        Args:
            caller: Who asks. The client ids of one caller mean nothing to another one, also where
                both are keys of one user.
            command: What to do, with the id that the client gave itself.
            min_replicas: As for `write`.
            holder: As for `write`.

        Raises:
            As `write` does.
        """
        if not caller.permissions:
            raise Forbidden("kv:*", "write")
        if isinstance(command, Watch) and caller.is_limited:
            caller.require_each(("read", b"kv:" + key) for key in command.keys)
        client = _owner(caller, command.client)
        owned = msgspec.structs.replace(command, client=client, holder=holder)
        if request is not None and not isinstance(command, Exec):
            raise InvalidRequest(QUEUED_WITH_KEY)
        if isinstance(command, Exec) and caller.is_limited:
            await self._require_queued(caller, client, holder)
        once = _once(caller, owned, request, holder) if isinstance(owned, Exec) else owned
        return await self._execute(once, min_replicas, holder)

    async def _require_queued(self, caller: Caller, client: str, holder: Holder) -> None:
        """Raise Forbidden unless the caller may do what was queued; it ends then."""
        pending = (await self._execute(Pending(client), 0, holder)).result
        assert isinstance(pending, PendingNeeds)
        try:
            caller.require_each(pending.needs)
        except (Forbidden, CrossSlot, SlotElsewhere):
            await self._execute(Discard(client), 0, holder)
            raise

    def find_request(
        self, caller: Caller, key: bytes
    ) -> tuple[tuple[Record, RequestRecord] | None, LogEnd]:
        """Return what is remembered of a request of the caller's, and the end of the log.

        Of a batch that is its last write that took effect, and whether any changed something.

        Args:
            key: What the client calls it.

        Raises:
            Forbidden: the caller may do nothing at all.
        """
        caller.require_something()
        stored, end = self._node.reader().get_request(record_key(_owner(caller, ""), key))
        now = now_ms()
        records = [(each, decode_record(each.value)) for each in stored if is_live(each, now)]
        parts = [(each, record) for each, record in records if record is not None]
        if not parts:
            return None, end
        last, record = max(parts, key=lambda part: part[0].version)
        has_changed = any(each.has_changed for _, each in parts)
        return (last, msgspec.structs.replace(record, has_changed=has_changed)), end

    def require_for(self, caller: Caller, command: Command) -> None:
        """Raise Forbidden unless the caller may do what `command` does; for before a body is read.

        Raises:
            ReadOnlyReplica: this node is a replica.
        """
        if caller.is_limited:
            caller.require_for(command)
        self.require_writable()

    def submit(self, caller: Caller, command: Command, waiter: Waiter) -> bool:
        """Hand a write over as `write` does and let `waiter` have the outcome.

        Whoever waits calls `count` with it.

        Returns:
            False where so many wait already that each holder's share counts, which is for `write`
            to see to; `waiter` hears nothing.

        Raises:
            ReadOnlyReplica, WriterUnavailable: nothing changed, and `waiter` hears nothing.
            CommandDisabled: as `write`.
        """
        if caller.is_limited:
            caller.require_for(command)
        if command.__class__ is Flush:
            self._require_flush()
        # Not by `require_writable`, which would be a twentieth of it all.
        if self._node.view.role == "replica":
            self.require_writable()
        if len(self._client.waiting) >= _MOST_UNSHARED:
            return False
        self._client.submit(waiter, command)
        return True

    async def _execute(
        self, command: Command | TransactionCommand | Once, min_replicas: int, holder: Holder
    ) -> Done:
        self.require_writable()
        if min_replicas and self._node.view.role == "standalone":
            raise InvalidRequest("this node is standalone: no replica can hold its writes")
        waits = self._quorum_waits if min_replicas or self._always_waits else self._writes
        waits.begin(holder)
        try:
            done = await self._client.execute(command, min_replicas)
        except _OUTCOME_OPEN as error:
            # What takes effect once may be sent again, whatever became of it.
            error.retryable = isinstance(command, Once)
            raise
        finally:
            waits.end(holder)
        self.count(command, done.result)
        if isinstance(done.result, Replayed):
            self._node.series.count(REPLAYS)
            return _as_before(done, done.result)
        return done

    async def require_held(self, offset: int, min_replicas: int, *, holder: Holder) -> None:
        """Wait until replicas hold what was read.

        Args:
            offset: The last entry that it tells of.
            min_replicas: How many are asked for; `replication.read_held` may ask for more.
            holder: For whom it counts while it waits.

        Raises:
            ReadOnlyReplica: this node is a replica, which does not know what others hold.
            InvalidRequest: replicas are asked for, and this node can't have any.
            NotHeld: too few hold it, and did not within `replication.ack_timeout_ms`.
            ShareTaken: too much waits for `holder` already.
            WriteRefused: this master can't tell, because it is none any more or not yet.
        """
        role = self._node.view.role
        if role == "standalone" and not min_replicas:
            return
        if role == "replica":
            if not min_replicas:
                return
            raise ReadOnlyReplica(
                "this node is a replica: what others hold is known at the master alone"
            )
        wanted = max(min_replicas, self._read_replicas)
        try:
            await self._execute(Confirm(offset), wanted, holder)
        except QuorumTimeout as error:
            raise NotHeld(
                f"fewer than {wanted} replicas hold what was read, up to offset {offset}; it may "
                "be lost with this master. Try again"
            ) from error

    async def require_strong(
        self, end: LogEnd, offset: int, min_replicas: int, *, holder: Holder
    ) -> None:
        """See to it that what was read shows every write that was acknowledged before.

        It does where no other node can have been the master, and where what it tells can't get
        lost any more: as many replicas hold it as each write waits for.

        Args:
            end: The end of the log that was seen.
            offset: As for `require_held`.
            min_replicas: As for `require_held`.
            holder: As for `require_held`.

        Raises:
            ReadOnlyReplica: this node is a replica.
            InvalidRequest: nobody gives this node a lease.
            NoLease: it is over, or the reign that was read.
            As `require_held`.
        """
        if self._node.view.role == "replica":
            raise ReadOnlyReplica("this node is a replica: strong reads are the master's")
        if not self._has_engine:
            raise InvalidRequest(
                "X-Synap-Consistency: strong reads need a master with a lease, and this node has "
                "none (failover.engine)"
            )
        replicas = max(min_replicas, self._quorum)
        if replicas and offset:
            await self.require_held(offset, replicas, holder=holder)
        view = self._node.view
        if end.history not in (view.history, NO_HISTORY) or not is_alone(view):
            raise NoLease(
                "this master's lease is over, or was not granted yet, and another node may be the "
                "master; ask again"
            )

    @property
    def reads_held(self) -> bool:
        """Whether reads wait for replicas also where a request asks for none."""
        return self._read_replicas > 0

    async def await_applied(
        self, holder: Holder, place: Place | None = None, offset: int | None = None
    ) -> None:
        """Wait until this node has applied a place, an offset, or both.

        Args:
            holder: For whom it counts while it waits.
            place: See `LocalNode.wait_place`.
            offset: See `LocalNode.wait_applied`.

        Raises:
            ShareTaken: too many reads wait for `holder` already.
            PositionLost, NotCaughtUp: as these do.
        """
        self._reads.begin(holder)
        try:
            if place is not None:
                await self._node.wait_place(place)
            if offset is not None:
                await self._node.wait_applied(offset)
        finally:
            self._reads.end(holder)

    def require_writable(self) -> None:
        """Raise ReadOnlyReplica where this node is one."""
        if self._node.view.role == "replica":
            raise ReadOnlyReplica("this node is a replica and takes no writes; ask the master")

    def _require_flush(self) -> None:
        if not self._node.config.kv_store.allow_flush_commands:
            raise CommandDisabled(
                "removing every key is turned off; kv_store.allow_flush_commands turns it on"
            )

    def get(self, caller: Caller, key: bytes, asked: object = None) -> tuple[Record | None, LogEnd]:
        """Return what `key` holds now, or None, and the end of the log; counted as a GET.

        Args:
            caller: Who asks.
            asked: What else is asked for, of which nothing matters here. It is taken so that an
                operation can look by this method itself.

        Raises:
            KeyInvalid: the key is empty or too long.
        """
        if not 0 < len(key) <= MAX_KEY_BYTES:
            check_key(key)
        if caller.is_limited:
            caller.require_read(key)
        record, end = self._node.reader().get(key)
        counts = self._node.counts
        if record is not None and (record.expiry_ms == 0 or is_live(record, now_ms())):
            counts[_HITS] += 1
            touch = self._node.touch
            if touch is not None:
                touch(key)
            return record, end
        counts[_MISSES] += 1
        return None, end

    def look(
        self, caller: Caller, key: bytes, asked: object = None
    ) -> tuple[Record | None, LogEnd]:
        """Return the same as `get` without counting it as one."""
        check_key(key)
        if caller.is_limited:
            caller.require_read(key)
        record, end = self._node.reader().get(key)
        return (record if is_live(record, now_ms()) else None), end

    async def get_many(
        self, caller: Caller, keys: Sequence[bytes]
    ) -> tuple[list[bytes | None], LogEnd]:
        """Return the value of each key, and the end of the log.

        The value is None where the key is missing, or the caller may not read it.

        Raises:
            Forbidden: the caller may do nothing at all.
            KeyInvalid: one is empty or too long.
            AnswerTooLarge: the values have too many bytes together.
        """
        few = self.get_few(caller, keys)
        if few is not None:
            return few
        wanted = _wanted(caller, keys)
        found, end = await self._node.read_in_thread(
            StoreReader.get_many, wanted, now_ms(), self._max_answer_bytes
        )
        return self._got_many(keys, wanted, found), end

    def get_few(
        self, caller: Caller, keys: Sequence[bytes]
    ) -> tuple[list[bytes | None], LogEnd] | None:
        """Return the same as `get_many` without waiting; None where the keys are many."""
        if caller.is_limited:
            caller.require_something()
            caller.require_together(keys)
        check_keys(keys)
        # Names that come again and again are no read, and take their time all the same.
        if len(keys) > _MANY_KEYS:
            return None
        wanted = _wanted(caller, keys)
        found, end = self._node.reader().get_many(wanted, now_ms(), self._max_answer_bytes)
        return self._got_many(keys, wanted, found), end

    def _got_many(
        self, keys: Sequence[bytes], wanted: list[bytes], found: list[bytes | None]
    ) -> list[bytes | None]:
        """Return the values of `keys` from those of the ones that were read, and count them."""
        if len(wanted) == len(keys):
            values = found
        else:
            by_key = dict(zip(wanted, found, strict=True))
            values = [by_key.get(key) for key in keys]
            total_bytes = sum(len(value) for value in values if value is not None)
            if total_bytes > self._max_answer_bytes:
                raise AnswerTooLarge
        touch = self._node.touch
        if touch is not None:
            for key, value in zip(keys, values, strict=True):
                if value is not None:
                    touch(key)
        misses = values.count(None)
        counts = self._node.counts
        counts[_HITS] += len(values) - misses
        counts[_MISSES] += misses
        return values

    async def administer(
        self, caller: Caller, command: AdminCommand, timeout_seconds: float
    ) -> AdminResult:
        """Have the log's owner do the operator's work; see `synap.ipc.admin_socket.ask`."""
        caller.require("admin", b"node:" + _WORK[type(command)])
        return await ask(self._node.paths.admin_socket, command, timeout_seconds)

    def count(self, command: Command | TransactionCommand | Once, result: Any) -> None:
        """Count what `command` did, by its result."""
        counts = self._node.counts
        if result.__class__ is SetResult and result.written:
            # As below, for less: most writes are of this kind.
            counts[_SETS] += 1
            return
        written, removed = command.counted(result)
        if written:
            counts[_SETS] += written
        if removed:
            counts[_DELS] += removed


def seconds_left(record: Record) -> int | None:
    """Return the whole seconds that a key has left, which was just seen; None where for ever."""
    seconds = ttl_seconds(record, now_ms())
    return None if seconds is None else max(seconds, 0)


def _wanted(caller: Caller, keys: Sequence[bytes]) -> list[bytes]:
    """Return the keys to read, each once.

    What the caller may not read is not looked at, so that no time or memory tells of it.
    """
    wanted = list(dict.fromkeys(keys))
    if caller.is_limited:
        wanted = [key for key in wanted if caller.may_read(key)]
    return wanted


def _once(
    caller: Caller, command: Command | Exec, request: RequestKey | None, holder: Holder
) -> Command | Exec | Once:
    """Return the command such that it takes effect once, where it has a key."""
    if request is None:
        return command
    key = record_key(_owner(caller, ""), request.key, request.part)
    return Once(key, request.fingerprint, holder, command, request.is_conditional)


def _as_before(done: Done, replayed: Replayed) -> Done:
    result = replayed.result if replayed.is_whole else WithoutResult()
    return Done(done.offset, result, done.history, is_replayed=True)


def _owner(caller: Caller, client_id: str) -> str:
    """Return the client id as the log's owner knows it, apart from those of other callers."""
    return f"{caller.name}\0{caller.id}\0{client_id}"


def not_found(key: bytes) -> KeyNotFound:
    """Return the error which says that `key` does not exist."""
    return KeyNotFound(f"Key not found: {key.decode()}")
