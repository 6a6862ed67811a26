"""An operation: the one place that says what a request for it is, does and answers.

It can be asked for in two ways: by a route of its own, with its key in the path or the body, and by
its name at `/api/v1/command`, with a payload. Both bring the same things to `Operation.carry_out`,
and both show what it found; only what they show may differ. `endpoints.operations` adapts
operations to routes, `endpoints.commands` to names, and the table of them all is in `table`.

Nothing here knows Falcon: the short way through a worker takes what it needs from the same objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from synap.auth.permissions import Action, Caller
from synap.commands.commands import Command
from synap.commands.once import RequestKey
from synap.commands.records import Record
from synap.commands.transactions import Queued, TransactionCommand
from synap.errors import NotHeld
from synap.http.api.bodies import Decode
from synap.http.api.openapi.route import Route
from synap.ipc.writer_client import Done
from synap.place import LogEnd
from synap.service.node_api import NodeApi
from synap.service.node_facts import NodeFacts
from synap.shares import Holder

BodyT = TypeVar("BodyT", bound=msgspec.Struct)
FoundT = TypeVar("FoundT")

# Long enough for any id that a client makes up, short enough to be kept for each of them.
ClientId = Annotated[str, msgspec.Meta(max_length=256)]
_QUEUED = {"success": True, "queued": True}


class Nothing(msgspec.Struct, gc=False):
    """A body of which no field counts."""


class Context:
    """One request: who asks, on which conditions, and what it has seen.

    Attributes:
        api: What a client may ask of the node's data.
        facts: What the node tells of itself.
        caller: Who asks.
        holder: For whom it counts what waits, or is left open; see `Request.holder`.
        min_replicas: How many replicas are to hold what it writes and reads.
        end: The newest end of the log that it has seen or made; None before any.
        has_read: Whether it has seen the store.
        told: The last entry that what was read tells of, since `confirm`; 0 for none.
        answer_bytes: What the answers of a batch take up so far.
        request: What the client calls the request; None where it has no name.
        is_replayed: Whether something of it was done when it came before, and not again.
        is_strong: Whether what it reads is to show every write that was acknowledged before.
    """

    __slots__ = (
        "_not_held", "answer_bytes", "api", "caller", "end", "facts", "has_read", "holder",
        "is_replayed", "is_strong", "min_replicas", "request", "told",
    )  # fmt: skip

    def __init__(
        self,
        api: NodeApi,
        facts: NodeFacts,
        caller: Caller,
        holder: Holder,
        min_replicas: int = 0,
    ) -> None:
        self.api = api
        self.facts = facts
        self.caller = caller
        self.holder = holder
        self.min_replicas = min_replicas
        self.end: LogEnd | None = None
        self.has_read = False
        self.answer_bytes = 0
        self.told = 0
        self.request: RequestKey | None = None
        self.is_replayed = False
        self.is_strong = False
        self._not_held: NotHeld | None = None

    async def write(self, command: Command, client_id: str | None = None) -> Any:
        """Return the result of a write; see `NodeApi.write`."""
        done = await self.api.write(
            self.caller, command, self.min_replicas, client_id, holder=self.holder,
            request=self.request,
        )  # fmt: skip
        return self._done(done)

    async def transact(self, command: TransactionCommand) -> Any:
        """Return the result of a transaction's command; see `NodeApi.transact`."""
        done = await self.api.transact(
            self.caller, command, self.min_replicas, holder=self.holder, request=self.request
        )
        return self._done(done)

    def saw(self, end: LogEnd, record: Record | None = None) -> None:
        """Note the end of the log that a read has seen, and the one record where it was one.

        That there is none, any entry up to the end may have brought about.
        """
        self.has_read = True
        self.told = max(self.told, end.offset if record is None else record.version)
        self._note(end)

    async def confirm(self) -> None:
        """Wait until what was read may be told, where the request or the configuration asks.

        Raises:
            As `NodeApi.require_held` and `require_strong`; and again at once, where replicas were
                said before not to hold it.
        """
        is_asked = self.is_strong or self.min_replicas or self.api.reads_held
        if self.end is None or not self.has_read or not is_asked:
            return
        if self._not_held is not None:
            raise self._not_held
        try:
            if self.is_strong:
                await self.api.require_strong(
                    self.end, self.told, self.min_replicas, holder=self.holder
                )
            elif self.told:
                await self.api.require_held(self.told, self.min_replicas, holder=self.holder)
        except NotHeld as error:
            self._not_held = error
            raise
        self.told = 0

    def part(self, request: RequestKey) -> Context:
        """Return the context of one command of a batch, which has a name of its own."""
        part = Context(self.api, self.facts, self.caller, self.holder, self.min_replicas)
        part.request = request
        part.is_strong = self.is_strong
        return part

    def take(self, part: Context) -> None:
        """Take over what a part has come to."""
        self.is_replayed |= part.is_replayed
        if part.end is not None:
            self._note(part.end)

    def _done(self, done: Done) -> Any:
        self.is_replayed |= done.is_replayed
        self._note(done.end)
        return done.result

    def _note(self, end: LogEnd) -> None:
        if self.end is None or end.offset >= self.end.offset:
            self.end = end


Show = Callable[[bytes, BodyT, FoundT], object]
"""Makes the answer of the key, the body, and what the operation found."""

LookUp = Callable[[NodeApi, Caller, bytes, BodyT], tuple[Record | None, LogEnd]]
"""Looks a key up for a caller, by the path's key and the body; returns the end that it saw too."""

Glance = Callable[[NodeApi, Caller, bytes, BodyT], tuple[FoundT, LogEnd] | None]
"""Looks into the store in the same way, unless that would take long: None then."""


class Operation(ABC, Generic[BodyT, FoundT]):
    """One operation, by both ways.

    Attributes:
        names: Those of the command.
        route: Its method and path; None where there is the command alone.
        body: What it is asked with, beside the key of a path: by a POST's route JSON, by another
            route the parameters of the query. As it stands it is also the command's payload, with
            the key as a field where a path has it.
        payload: The command's payload where that is more, a subclass of `body` mostly.
        key_field: The payload's name for the key of the path; empty where no path has a key.
        is_queued: Whether a client's transaction may take the command.
        decode: Decodes the JSON of the route's body where that is done in a special way.
        show: Makes the answer of the route, for JSON. An error that it returns is answered as if it
            was raised; so is one that it raises.
        show_named: Makes the command's answer.
        action: What whoever asks must be allowed with the key of the path, or else with some key.
            There may be more: of a request with a body, this is looked at before that is read.
        is_filtered: Whether it shows what the caller may read of what is asked for, and refuses
            nothing by its key: then whoever may do anything may ask.
        is_write: Whether the log's owner carries it out. Consecutive ones of a batch go to it as
            one message.
    """

    is_write = False
    _usual_action: Action = "read"

    def __init__(
        self,
        names: str,
        route: Route | None,
        body: type[BodyT],
        show: Show[BodyT, FoundT],
        *,
        show_named: Show[BodyT, FoundT] | None = None,
        payload: type[BodyT] | None = None,
        key_field: str = "key",
        is_queued: bool = False,
        decode: Decode[BodyT] | None = None,
        action: Action | None = None,
        is_filtered: bool = False,
    ) -> None:
        """
        Args:
            names: Apart by blanks.
        """
        self.names = names.split()
        self.route = route
        self.body = body
        self.show = show
        self.show_named = show_named or show
        self.key_field = key_field if route and "{key}" in route.path and not payload else ""
        self.is_queued = is_queued
        self.payload = payload or self._payload()
        self.decode = decode
        self.action = action or self._usual_action
        self.is_filtered = is_filtered

    def admit(self, caller: Caller, key: bytes) -> None:
        """Let a request pass whose body is not there yet.

        Args:
            key: That of the path; b"" where no path has one.

        Raises:
            Forbidden: whatever the body says, the caller may not.
        """
        if caller.is_limited:
            if self.is_filtered:
                caller.require_something()
            elif key:
                caller.require(self.action, b"kv:" + key)
            else:
                caller.require_some_key(self.action)

    @abstractmethod
    async def carry_out(
        self, context: Context, key: bytes, body: BodyT, client_id: str | None = None
    ) -> FoundT:
        """Do it.

        Args:
            context: Learns the end of the log.
            key: That of the path; b"" where no path has one.
            body: What it is asked with.
            client_id: The client whose transaction it may be for.

        Raises:
            SynapError: it can't be done.
        """

    @property
    def takes_json(self) -> bool:
        """Whether the route has a JSON body."""
        return self.route is not None and self.route.method == "POST" and self.body is not Nothing

    def described(self) -> Route:
        """Return the route with its body, for the API's description."""
        assert self.route is not None
        body = self.body if self.takes_json else None
        return msgspec.structs.replace(self.route, body=body)

    def _payload(self) -> Any:
        """Return the body with the path's key and the client's id, where there are such."""
        fields: list[Any] = []
        if self.key_field:
            fields.append((self.key_field, str))
        if self.is_queued:
            fields.append(("client_id", ClientId | None, None))
        if not fields:
            return self.body
        name = f"{self.body.__name__}Payload"
        if self.takes_json:
            return msgspec.defstruct(name, fields, bases=(self.body,), kw_only=True, gc=False)
        # Where several fields are missing the first is named: before those of a query, the key.
        for each in msgspec.structs.fields(self.body):
            fields.append((each.name, each.type, *(() if each.required else (each.default,))))
        return msgspec.defstruct(name, fields, gc=False)


class Look(Operation[BodyT, Record | None]):
    """An operation that looks at one key, without waiting.

    Attributes:
        look: Looks, and returns what the key holds with the end that it saw.
    """

    def __init__(
        self,
        names: str,
        route: Route | None,
        body: type[BodyT],
        look: LookUp[BodyT],
        show: Show[BodyT, Record | None],
        **more: Any,
    ) -> None:
        super().__init__(names, route, body, show, **more)
        self.look = look

    async def carry_out(
        self, context: Context, key: bytes, body: BodyT, client_id: str | None = None
    ) -> Record | None:
        record, end = self.look(context.api, context.caller, key, body)
        context.saw(end, record)
        return record


class Read(Operation[BodyT, FoundT]):
    """An operation that looks at what this node tells of itself, without waiting."""

    def __init__(
        self,
        names: str,
        route: Route | None,
        body: type[BodyT],
        find: Callable[[Context, bytes, BodyT], FoundT],
        show: Show[BodyT, FoundT],
        **more: Any,
    ) -> None:
        """
        Args:
            find: Looks, and tells the context the end that it saw.
        """
        super().__init__(names, route, body, show, **more)
        self._find = find

    async def carry_out(
        self, context: Context, key: bytes, body: BodyT, client_id: str | None = None
    ) -> FoundT:
        return self._find(context, key, body)


class LongRead(Operation[BodyT, FoundT]):
    """An operation that looks into this node beside the event loop.

    Attributes:
        look: Looks at once, where little is asked for; returns None where it is much.
    """

    def __init__(
        self,
        names: str,
        route: Route | None,
        body: type[BodyT],
        find: Callable[[Context, bytes, BodyT], Awaitable[FoundT]],
        show: Show[BodyT, FoundT],
        *,
        look: Glance[BodyT, FoundT] | None = None,
        **more: Any,
    ) -> None:
        """
        Args:
            find: As Read's.
        """
        super().__init__(names, route, body, show, **more)
        self._find = find
        self.look = look

    async def carry_out(
        self, context: Context, key: bytes, body: BodyT, client_id: str | None = None
    ) -> FoundT:
        return await self._find(context, key, body)


VersionOf = Callable[[BodyT, Any, int], int]
"""Returns the offset of the version that a key has now, 0 where it is not known, by the body, the
command's result and the offset of its last entry."""


class Write(Operation[BodyT, Any]):
    """An operation that comes to one command for the log's owner.

    Attributes:
        prepare: Returns the command.
        version: Tells the version that its one key has then; None where it has none, or several.
    """

    is_write = True
    _usual_action: Action = "write"

    def __init__(
        self,
        names: str,
        route: Route | None,
        body: type[BodyT],
        prepare: Callable[[bytes, BodyT], Command],
        show: Show[BodyT, Any],
        *,
        version: VersionOf[BodyT] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(names, route, body, show, **more)
        self.prepare = prepare
        self.version = version
        if self.is_queued:
            self.show_named = _unless_queued(self.show_named)

    async def carry_out(
        self, context: Context, key: bytes, body: BodyT, client_id: str | None = None
    ) -> Any:
        return await context.write(self.prepare(key, body), client_id)


class Transact(Operation[BodyT, Any]):
    """A command that opens, ends, carries out or guards a client's transaction."""

    is_write = True

    def __init__(
        self,
        names: str,
        body: type[BodyT],
        prepare: Callable[[BodyT], TransactionCommand],
        show: Show[BodyT, Any],
    ) -> None:
        super().__init__(names, None, body, show)
        self._prepare = prepare

    async def carry_out(
        self, context: Context, key: bytes, body: BodyT, client_id: str | None = None
    ) -> Any:
        return await context.transact(self._prepare(body))


def as_it_is(key: bytes, body: object, found: FoundT) -> FoundT:
    """Show what was found."""
    return found


def named(word: str) -> Callable[[bytes, object, object], dict[str, object]]:
    """Return what shows what was found under one name."""
    return lambda key, body, found: {word: found}


def if_done(body: object, result: object, last: int) -> int:
    """Return the version that a write has made whose result says whether it did anything."""
    return last if result else 0


def _unless_queued(show: Show[BodyT, Any]) -> Show[BodyT, Any]:
    def show_queued(key: bytes, body: BodyT, found: Any) -> object:
        return _QUEUED if isinstance(found, Queued) else show(key, body, found)

    return show_queued
