"""What all resources share: reading the request's conditions and writing the common headers."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
import orjson
from falcon.asgi import Response

from synap.auth.permissions import Caller
from synap.commands.commands import Command
from synap.commands.keys import Delete
from synap.commands.keyspace import ABSENT
from synap.commands.once import RequestKey
from synap.commands.records import Record
from synap.commands.strings import Set
from synap.http.api.bodies import Decode
from synap.http.api.conditions import ATTEMPTS, Conditions, guarded, was_done
from synap.http.api.headers import CONSISTENCY, MIN_OFFSET, MIN_POSITION, MIN_REPLICAS
from synap.http.api.idempotency import REPLAYED, TRUE
from synap.http.api.request import Request
from synap.ipc.writer_client import Done
from synap.place import LogEnd, Place, parse_place
from synap.request_errors import InvalidRequest, PreconditionFailed
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

Body = TypeVar("Body", bound=msgspec.Struct)

OFFSET = "X-Synap-Offset"
POSITION = "X-Synap-Position"
LAG_MS = "X-Synap-Lag-Ms"
MASTER = "X-Synap-Master"
# As many as a master keeps an eye on.
_STRONG = b"strong"
_MAX_REPLICAS = 256
# The log's offsets have 64 bits.
_MAX_OFFSET = 2**64 - 1
# As many languages write a whole number of seconds.
_WHOLE_FRACTION = re.compile(r"-?[0-9]{1,18}\.0{1,9}")


class Resource:
    """Base of the resources; falcon looks for the `on_…` methods of the subclasses.

    Attributes:
        is_long: Whether answers may be long, and are packed for those who ask; see `packing`.
    """

    is_long = False

    def __init__(self, node: LocalNode, api: NodeApi) -> None:
        self._node = node
        self._api = api
        self._max_body_bytes = node.config.server.max_request_size_mb * 1024 * 1024
        self._ignores_unknown = node.config.server.unknown_fields == "ignore"

    async def await_applied(self, req: Request) -> None:
        """Wait until the node has applied what the request asks for, if it does.

        Raises:
            InvalidRequest: X-Synap-Min-Position is no position, X-Synap-Min-Offset no offset.
            PositionLost: what is asked for is no part of the node's log.
            NotCaughtUp: it took too long.
            ShareTaken: too many reads of the same client wait already.
        """
        headers = req.raw_headers
        position, offset = headers.get(MIN_POSITION), headers.get(MIN_OFFSET)
        if position is None and offset is None:
            return
        await self._api.await_applied(
            req.holder,
            None if position is None else parse_position(position),
            None if offset is None else _parse_offset(offset),
        )

    async def await_held(self, req: Request, offset: int, end: LogEnd) -> None:
        """Wait until what was read may be told, where the request asks for more than what is here.

        Args:
            req: Asks.
            offset: The last entry that what was read tells of.
            end: The end of the log that was seen.

        Raises:
            InvalidRequest: X-Synap-Min-Replicas is no number of replicas, X-Synap-Consistency not
                `strong`.
            As `NodeApi.require_held` and `require_strong`.
        """
        if self.is_strong(req):
            replicas = self.min_replicas(req)
            await self._api.require_strong(end, offset, replicas, holder=req.holder)
        elif MIN_REPLICAS in req.raw_headers or self._api.reads_held:
            replicas = self.min_replicas(req)
            if replicas or self._api.reads_held:
                await self._api.require_held(offset, replicas, holder=req.holder)

    async def await_before_write(self, req: Request) -> None:
        """Wait as `await_applied` does, before a write, which a replica refuses at once."""
        headers = req.raw_headers
        if MIN_POSITION in headers or MIN_OFFSET in headers:
            self._api.require_writable()
            await self.await_applied(req)

    async def write_on_conditions(
        self,
        req: Request,
        key: bytes,
        command: Set | Delete,
        conditions: Conditions,
        request: RequestKey | None = None,
    ) -> Done:
        """Have the log's owner carry out `command` where the conditions on `key` hold.

        Args:
            request: What the client calls it. Where it was done before, the conditions count for
                nothing: they held then.

        Raises:
            PreconditionFailed: they do not.
            InvalidRequest: the command has conditions of its own.
            As `write`.
        """
        # Whoever may not gets to know nothing of the key, on a replica as on a master.
        self._api.require_for(req.caller, guarded(command))
        await self.await_before_write(req)
        for _ in range(ATTEMPTS):
            version = None
            if isinstance(command, Delete) or conditions.needs_version:
                version = self.version_of(*self._api.look(req.caller, key))
                try:
                    conditions.check(version)
                except PreconditionFailed:
                    # In this order: what has changed the key since has its record by now.
                    if (
                        request is None
                        or self._api.find_request(req.caller, request.key)[0] is None
                    ):
                        raise
            if isinstance(command, Delete):
                done = await self.write(req, Delete((key,), version), request=request)
            else:
                done = await self.write(req, conditions.on_set(command, version), request=request)
            if done.is_replayed or was_done(done.result):
                return done
            if version is None:
                break
        raise PreconditionFailed

    async def write(
        self,
        req: Request,
        command: Command,
        caller: Caller | None = None,
        request: RequestKey | None = None,
    ) -> Done:
        """Have the log's owner carry out `command` as the request asks; see `NodeApi.write`.

        Args:
            req: Says who asks, and on which conditions.
            command: What to do.
            caller: Who may, where that was decided by rules of the resource's own.
            request: What the client calls it.

        Raises:
            InvalidRequest: X-Synap-Min-Replicas is no number of replicas.
            As `await_applied`.
        """
        await self.await_before_write(req)
        return await self._api.write(
            caller or req.caller, command, self.min_replicas(req), holder=req.holder,
            request=request,
        )  # fmt: skip

    def min_replicas(self, req: Request) -> int:
        """Return how many replicas the request wants to hold what it writes and reads.

        Raises:
            InvalidRequest: X-Synap-Min-Replicas is no number of replicas.
        """
        text = req.raw_headers.get(MIN_REPLICAS)
        return 0 if text is None else _parse_replicas(text)

    def is_strong(self, req: Request) -> bool:
        """Say whether the request wants to see every write that was acknowledged before.

        Raises:
            InvalidRequest: X-Synap-Consistency is something else than `strong`.
        """
        text = req.raw_headers.get(CONSISTENCY)
        if text is not None and text != _STRONG:
            raise InvalidRequest("header X-Synap-Consistency is not strong")
        return text is not None

    async def read_body(
        self,
        req: Request,
        decode: Decode[Body],
        *,
        default: bytes = b"",
        limit_bytes: int | None = None,
    ) -> Body:
        """Return the request's decoded body; see `Request.json_body` and `bodies.decoder`.

        Args:
            req: Has it.
            decode: Knows its kind.
            default: What an empty one stands for.
            limit_bytes: The most that it may have, where that is less than everywhere.
        """
        data = await req.json_body(limit_bytes or self._max_body_bytes)
        return decode(data or default, self._ignores_unknown)

    def stamp_read(self, resp: Response, end: LogEnd) -> None:
        """Say in the headers which state was read."""
        self.stamp_write(resp, end)
        if self._node.is_replica:
            resp.set_header(LAG_MS, str(self._node.lag_ms()))

    def answer_read(self, resp: Response, end: LogEnd, body: object) -> None:
        """Answer a read with JSON."""
        self.stamp_read(resp, end)
        resp.data = orjson.dumps(body)

    def stamp_write(self, resp: Response, end: LogEnd) -> None:
        """Say in the headers where the write stands in the log."""
        resp.set_header(OFFSET, str(end.offset))
        resp.set_header(POSITION, self._node.reigns(end.history).token(end.offset))

    def stamp_replayed(self, resp: Response, is_replayed: bool) -> None:
        """Say in the headers where what is answered was done when the request came before."""
        if is_replayed:
            resp.set_header(REPLAYED, TRUE)

    def version_of(self, record: Record | None, end: LogEnd) -> Place:
        """Return the version of what was read at `end`; ABSENT where nothing was there."""
        return ABSENT if record is None else self._node.reigns(end.history).place(record.version)

    def answer_write(self, resp: Response, end: LogEnd, body: object) -> None:
        """Answer a write with JSON."""
        self.stamp_write(resp, end)
        resp.data = orjson.dumps(body)


def integer_param(req: Request, name: str, default: int | None = None) -> int:
    """Return an integer of the query string.

    Raises:
        InvalidRequest: it is not one, or is missing and has no default.
    """
    text = req.params.get(name)
    if text is None and default is not None:
        return default
    if isinstance(text, str) and _WHOLE_FRACTION.fullmatch(text):
        text = text.partition(".")[0]
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        problem = "is missing" if text is None else "is not one integer"
        raise InvalidRequest(f"parameter '{name}' {problem}") from error


def text_param(req: Request, name: str) -> str | None:
    """Return a parameter of the query string, None where it is missing.

    Raises:
        InvalidRequest: it is given more than once.
    """
    text = req.params.get(name)
    if isinstance(text, list):
        raise InvalidRequest(f"parameter '{name}' is given more than once")
    return text


def _parse_offset(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20 or int(text) > _MAX_OFFSET:
        raise InvalidRequest("header X-Synap-Min-Offset is not an offset")
    return int(text)


def parse_position(text: bytes) -> Place:
    """Return the place that the value of X-Synap-Min-Position names.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return parse_place(text.decode("latin-1"))
    except ValueError as error:
        raise InvalidRequest(f"header X-Synap-Min-Position is {error}") from error


def _parse_replicas(text: bytes) -> int:
    if not text.isdigit() or len(text) > 3 or int(text) > _MAX_REPLICAS:
        raise InvalidRequest(f"header X-Synap-Min-Replicas is not from 0 to {_MAX_REPLICAS}")
    return int(text)
