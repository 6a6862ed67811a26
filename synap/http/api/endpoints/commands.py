"""`POST /api/v1/command`: one command, or a batch of them, by name.

What parses is answered with 200 and an envelope, which also tells what went wrong: clients of this
endpoint look at nothing else. A single command that is refused for the node's state or for its size
(413, 429, 503), or because its transaction is lost (409), keeps that status, with the envelope and
the REST error in one.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson
from falcon.asgi import Response

from synap import errors, request_errors
from synap.commands.once import RequestKey, WithoutResult
from synap.errors import SynapError
from synap.http.api import bodies
from synap.http.api.errors import ErrorAnswer, body_of, error_answer, status_of
from synap.http.api.headers import IDEMPOTENCY_KEY
from synap.http.api.hot_routes import HotRoute, ReadRoute, WriteRoute
from synap.http.api.idempotency import WITHOUT_RESULT, described, request_key
from synap.http.api.operations.operation import Context, Glance, LongRead, Look, Operation, Write
from synap.http.api.operations.table import BY_NAME
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.http.server.head_lines import JSON_TYPE
from synap.nearest import nearest_name
from synap.request_errors import (
    AnswerTooLarge,
    CommandUnknown,
    FieldInvalid,
    FieldMissing,
    FieldUnknown,
    KeyNotFound,
    RecordCorrupt,
)
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.node_facts import NodeFacts

_PATH = "/api/v1/command"
# A batch is one client's; more than this would hold up those of others.
MAX_BATCH_COMMANDS = 1000
# Statuses that a single command's error keeps.
_OWN_STATUS = frozenset({409, 413, 429, 503})

# So do these, which clients must not take for answers to what they asked for.
_KEY_ERRORS = (request_errors.IdempotencyKeyReused, request_errors.IdempotencyFull)

# The nearest class up the tree counts; other errors say what they are in their own words.
_PREFIXES: dict[type[SynapError], str] = {
    request_errors.CommandError: "Invalid request: ",
    request_errors.InvalidValue: "Invalid value: ",
    request_errors.ValueTooLarge: "Invalid value: ",
    request_errors.ShareTaken: "",
    request_errors.KeyNotFound: "Key not found: ",
    request_errors.CommandUnknown: "Unknown command: ",
    request_errors.CommandDisabled: "Forbidden: ",
    request_errors.Forbidden: "Forbidden: ",
    errors.ReadOnlyReplica: "Read-only replica: ",
    errors.SynapError: "",
}

_NO_PAYLOAD = msgspec.Raw(b"{}")


class OneCommand(msgspec.Struct, gc=False):
    """A command of a batch."""

    command: str
    request_id: str | None = None
    payload: msgspec.Raw = _NO_PAYLOAD


class CommandBody(msgspec.Struct, gc=False):
    """The request: one command, or with the type `batch` several."""

    type: str | None = None
    request_id: str | None = None
    command: str | None = None
    payload: msgspec.Raw = _NO_PAYLOAD
    commands: list[OneCommand] | None = None

    def single(self) -> OneCommand:
        """Return the one command.

        Raises:
            FieldMissing: there is none.
        """
        if self.command is None:
            raise FieldMissing("command")
        return OneCommand(self.command, self.request_id, self.payload)

    def batch(self) -> list[OneCommand]:
        """Return the commands of a batch.

        Raises:
            FieldMissing: there is no list.
            FieldInvalid: it is too long.
        """
        if self.commands is None:
            raise FieldMissing("commands")
        if len(self.commands) > MAX_BATCH_COMMANDS:
            raise FieldInvalid(f"field 'commands': more than {MAX_BATCH_COMMANDS} of them")
        return self.commands


_decode = bodies.decoder(CommandBody)


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoint."""
    app.add_route(_PATH, CommandEndpoint(node, api))


class CommandEndpoint(Resource):
    """Takes commands by name."""

    def __init__(self, node: LocalNode, api: NodeApi) -> None:
        super().__init__(node, api)
        self._facts = NodeFacts(node, api)

    async def on_post(self, req: Request, resp: Response) -> None:
        req.caller.require_something()
        # Clients of this endpoint send more than counts.
        body = _decode(await req.json_body(self._max_body_bytes), True)
        replicas = self.min_replicas(req)
        context = Context(self._api, self._facts, req.caller, req.holder, replicas)
        context.is_strong = self.is_strong(req)
        if body.type == "batch":
            commands = body.batch()
            await self._await_applied(req, commands)
            context.request = _request_key(req, [_PATH.encode()], commands)
            results = await self._answer_all(context, commands)
            resp.data = orjson.dumps(
                {"type": "batch_response", "request_id": body.request_id, "results": results}
            )
        else:
            command = body.single()
            await self._await_applied(req, [command])
            context.request = _request_key(req, [], [command])
            await self._answer_single(resp, context, command)
        self.stamp_replayed(resp, context.is_replayed)
        if context.has_read and context.end is not None:
            self.stamp_read(resp, context.end)
        elif context.end is not None:
            self.stamp_write(resp, context.end)

    async def _await_applied(self, req: Request, commands: list[OneCommand]) -> None:
        # A replica refuses writes at once.
        if not self._node.is_replica or any(map(_reads, commands)):
            await self.await_applied(req)

    async def _answer_single(self, resp: Response, context: Context, one: OneCommand) -> None:
        try:
            payload = await _answer(context, one)
        except SynapError as error:
            answer = _refused(one, error, self._node)
            resp.status, resp.data = answer.status, answer.body
            resp.set_headers(answer.headers)
        else:
            resp.data = orjson.dumps(_success(one, payload))

    async def _answer_all(
        self, context: Context, commands: list[OneCommand]
    ) -> list[orjson.Fragment]:
        """Carry the commands out in their order; consecutive writes go as one message."""
        results: list[orjson.Fragment] = []
        writes: list[OneCommand] = []
        parts = _Parts(context)
        for one in commands:
            if not (_reads(one) or _answers_value(one)):
                writes.append(one)
                continue
            results += await self._write_all(context, writes, parts)
            writes = []
            results.append(await self._answer_one(context, one, parts))
        return results + await self._write_all(context, writes, parts)

    async def _write_all(
        self, context: Context, writes: list[OneCommand], parts: _Parts
    ) -> list[orjson.Fragment]:
        # All are handed over in one turn of the loop, and `WriterClient` sends a turn's as one.
        answers = [self._answer_one(context, one, parts) for one in writes]
        return list(await asyncio.gather(*answers))

    async def _answer_one(
        self, context: Context, one: OneCommand, parts: _Parts
    ) -> orjson.Fragment:
        """Return the envelope, encoded: what a batch takes up is known by that."""
        try:
            if context.answer_bytes > self._api.max_answer_bytes:
                raise AnswerTooLarge
            envelope = _success(one, await parts.answer(one))
        except SynapError as error:
            envelope = _refusal(one, _told(error, self._node))
        text = orjson.dumps(envelope)
        context.answer_bytes += len(text)
        return orjson.Fragment(text)


class _Parts:
    """The commands of a batch. Where it has a name, each write has one of its own."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writes = 0

    async def answer(self, one: OneCommand) -> object:
        """Return the result payload of the next command; as `_answer`."""
        context = self._context
        if context.request is None or _reads(one):
            return await _answer(context, one)
        request = msgspec.structs.replace(context.request, part=self._writes)
        self._writes += 1
        part = context.part(request)
        try:
            return await _answer(part, one)
        finally:
            context.take(part)


# What decides whether something is done, or for how long; see `bodies` for misspelt ones.
_CONDITION_FIELDS = frozenset(
    {"nx", "xx", "if_version", "keepttl", "ttl", "expiry", "get", "replace"}
)
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BY_NAME: dict[str, tuple[bodies.Decode[Any], Operation[Any, Any]]] = {
    name: (bodies.decoder(operation.payload, "payload"), operation)
    for name, operation in BY_NAME.items()
}
# What commands are about: the first part of their names, or all of it.
_KINDS = frozenset(name.partition(".")[0] for name in _BY_NAME if "." in name)


def _decoded(one: OneCommand) -> tuple[Operation[Any, Any], Any, bytes]:
    """Return a command's operation, its payload, and the key in that.

    Raises:
        CommandUnknown: there is no such command.
        InvalidRequest, FieldInvalid: the payload is none for it.
    """
    if one.command not in _BY_NAME:
        raise CommandUnknown(_unknown(one.command))
    decode, operation = _BY_NAME[one.command]
    payload = _payload_of(one)
    try:
        body = decode(payload)
    except FieldUnknown:
        # Clients of this endpoint send more than counts; a condition counts, or is refused.
        _check_conditions(payload, operation)
        body = decode(payload, True)
    key = getattr(body, operation.key_field).encode() if operation.key_field else b""
    return operation, body, key


def _unknown(name: str) -> str:
    """Return a name that is no command's, and what its sender probably looks for.

    The SDKs have commands for types of values that there are not here.
    """
    if name.partition(".")[0] not in _KINDS:
        kinds = ", ".join(f"{kind}.*" for kind in sorted(_KINDS))
        return f"{name}; this node holds one value a key and knows {kinds}: see /docs"
    nearest = nearest_name(name, _BY_NAME)
    return f"{name}; did you mean '{nearest}'?" if nearest else f"{name}; see /docs"


async def _answer(context: Context, one: OneCommand) -> object:
    """Return the result payload.

    Raises:
        SynapError: it can't be done.
    """
    operation, body, key = _decoded(one)
    client_id = body.client_id if operation.is_queued else None
    found = await operation.carry_out(context, key, body, client_id)
    if not operation.is_write:
        await context.confirm()
    if isinstance(found, WithoutResult):
        return WITHOUT_RESULT
    shown = operation.show_named(key, body, found)
    if isinstance(shown, KeyNotFound):
        raise shown
    return shown


def _request_key(req: Request, parts: list[bytes], commands: list[OneCommand]) -> RequestKey | None:
    """Return what the client calls the request; None where it has no name.

    Args:
        parts: What tells it from a request for one of the commands alone.
    """
    if IDEMPOTENCY_KEY not in req.raw_headers:
        return None
    for one in commands:
        try:
            operation, body, _ = _decoded(one)
            parts += described(operation.names[0], b"", body)
        except SynapError:
            # It fails in its turn, and then again.
            parts += one.command.encode(), bytes(one.payload)
    return request_key(req.raw_headers, parts)


def _check_conditions(payload: bytes, operation: Operation[Any, Any]) -> None:
    """Raise FieldUnknown where a condition, or a deadline, would be passed over."""
    unknown = _decode_fields(payload).keys() - bodies.field_names(operation.payload)
    if not unknown.isdisjoint(_CONDITION_FIELDS):
        field = min(unknown & _CONDITION_FIELDS)
        raise FieldUnknown(f"field '{field}' does not count for {operation.names[0]}")


def _reads(one: OneCommand) -> bool:
    return one.command in BY_NAME and not BY_NAME[one.command].is_write


def _answers_value(one: OneCommand) -> bool:
    """Say whether a write may answer with a value, so that many must not be under way at once."""
    is_set = one.command == "kv.set" and b'"get"' in bytes(one.payload)
    return is_set or one.command in ("kv.getset", "kv.txn")


def _payload_of(one: OneCommand) -> bytes:
    payload = bytes(one.payload)
    return b"{}" if payload == b"null" else payload


def _success(one: OneCommand, payload: object) -> dict[str, Any]:
    return {"success": True, "request_id": one.request_id, "payload": payload, "error": None}


def _refusal(one: OneCommand, message: str) -> dict[str, Any]:
    return {"success": False, "request_id": one.request_id, "payload": None, "error": message}


def _refused(one: OneCommand, error: SynapError, node: LocalNode) -> ErrorAnswer:
    """Return what a client gets for the error of a single command."""
    envelope = _refusal(one, _told(error, node))
    status = status_of(error)
    if status not in _OWN_STATUS and not isinstance(error, _KEY_ERRORS):
        return ErrorAnswer(200, orjson.dumps(envelope))
    body = body_of(envelope.pop("error"), status, error.reason, error.retryable, **envelope)
    return ErrorAnswer(status, body, error_answer(error).headers)


def _told(error: SynapError, node: LocalNode) -> str:
    """Return the error's message after the prefix of its kind."""
    message = error.message
    if isinstance(error, RecordCorrupt | errors.StoreDamaged):
        node.report_damage(error)
    if isinstance(error, FieldMissing):
        message = f"Missing '{error.field}' field"
    elif isinstance(error, errors.ReadOnlyReplica):
        message = f"this node takes no writes; the master is {node.master_url or 'not known yet'}"
    prefix = next(_PREFIXES[kind] for kind in type(error).__mro__ if kind in _PREFIXES)
    return message if message.startswith(prefix) else prefix + message


# The short way


class _Named(msgspec.Struct, gc=False):
    """A single command, ready to be carried out."""

    one: OneCommand
    body: Any
    key: bytes


class HotCommands(HotRoute):
    """Single commands that look at keys or come to one change, by the short way."""

    __slots__ = ("_routes",)

    def __init__(self, node: LocalNode) -> None:
        super().__init__("POST", _PATH)
        self.types = (0, JSON_TYPE)
        self.tells_routes = True
        self._routes = {name: _hot(each, node) for name, each in BY_NAME.items()}

    def resolve(self, text: bytes) -> tuple[HotRoute, Any] | None:
        body = _decode(text, True)
        if body.type == "batch":
            return None
        one = body.single()
        route = self._routes.get(one.command)
        if route is None:
            return None
        operation, payload, key = _decoded(one)
        if operation.is_queued and payload.client_id is not None:
            return None
        return route, _Named(one, payload, key)


def _hot(operation: Operation[Any, Any], node: LocalNode) -> HotRoute | None:
    if isinstance(operation, Write):
        return _HotWrite(operation, node)
    if isinstance(operation, Look | LongRead) and operation.look is not None:
        return _HotRead(operation, operation.look, node)
    return None


def _envelope(operation: Operation[Any, Any], named: _Named, found: Any) -> object:
    shown = operation.show_named(named.key, named.body, found)
    return shown if isinstance(shown, KeyNotFound) else _success(named.one, shown)


class _HotRead(ReadRoute):
    __slots__ = ("_node",)

    def __init__(
        self, operation: Operation[Any, Any], look: Glance[Any, Any], node: LocalNode
    ) -> None:
        super().__init__(
            "POST",
            _PATH,
            lambda api, caller, key, named: look(api, caller, named.key, named.body),
            lambda key, named, found: _envelope(operation, named, found),
        )
        self._node = node

    def refuse(self, error: SynapError, body: Any, node: LocalNode | None = None) -> ErrorAnswer:
        return _refused(body.one, error, self._node)


class _HotWrite(WriteRoute):
    __slots__ = ("_node",)

    def __init__(self, operation: Write[Any], node: LocalNode) -> None:
        super().__init__(
            "POST",
            _PATH,
            lambda key, named: operation.prepare(named.key, named.body),
            lambda key, named, result: _envelope(operation, named, result),
        )
        self._node = node

    def refuse(self, error: SynapError, body: Any, node: LocalNode | None = None) -> ErrorAnswer:
        return _refused(body.one, error, self._node)
