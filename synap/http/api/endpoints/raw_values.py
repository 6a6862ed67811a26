"""`/raw/{key}`: values as the bytes they are, with conditions on their version."""

from __future__ import annotations

from falcon.asgi import Response

from synap.commands.keys import Delete
from synap.commands.keyspace import ABSENT
from synap.commands.once import RequestKey
from synap.commands.records import Record
from synap.commands.strings import Set, SetResult
from synap.http.api import bodies
from synap.http.api.conditions import Conditions, client_has, conditions_of
from synap.http.api.etags import ASK_AGAIN, etag_of
from synap.http.api.hot_routes import HotRoute, ReadRoute, WriteRoute
from synap.http.api.idempotency import request_key
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param
from synap.http.server.framing import header_lines
from synap.http.server.head_lines import LENGTH
from synap.place import Place, Reigns
from synap.request_errors import FieldInvalid, KeyNotFound
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi, not_found
from synap.shared.node_clock import begun_ms

_PATH = "/raw/{key}"
# A browser must not take a stored page for a page of this site.
_VALUE_HEADERS = (
    ("Content-Type", "application/octet-stream"),
    ("X-Content-Type-Options", "nosniff"),
)


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add `/raw/{key}`."""
    app.add_route("/raw/{key:key}", RawValue(node, api))


class RawValue(Resource):
    """One key's value."""

    async def on_get(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_applied(req)
        record, end = self._api.get(req.caller, key)
        await self.await_held(req, end.offset if record is None else record.version, end)
        self.stamp_read(resp, end)
        shown = _value(key, None, record)
        if isinstance(shown, KeyNotFound):
            raise shown
        version = self.version_of(record, end)
        resp.set_headers((("ETag", etag_of(version)), ("Cache-Control", ASK_AGAIN)))
        if client_has(req.raw_headers, version):
            resp.status = 304
            return
        resp.set_headers(_VALUE_HEADERS)
        resp.data = shown

    async def on_put(self, req: Request, resp: Response, key: bytes) -> None:
        expiry_ms = _expiry_ms(req)
        conditions = conditions_of(req.raw_headers)
        # Whoever may not is refused before the value is read.
        unread = Set(key, b"", if_version=None if conditions is None else ABSENT)
        self._api.require_for(req.caller, unread)
        command = Set(key, await req.body(self._max_body_bytes), expiry_ms)
        request = _request_key(req, "PUT", key, command.value, conditions)
        if conditions is None:
            done = await self.write(req, command, request=request)
        else:
            done = await self.write_on_conditions(req, key, command, conditions, request)
        self.stamp_replayed(resp, done.is_replayed)
        result = done.result
        assert isinstance(result, SetResult)
        version = self._node.reigns(done.history).place(result.version)
        resp.set_header("ETag", etag_of(version))
        self.answer_write(resp, done.end, _written(key, version))

    async def on_delete(self, req: Request, resp: Response, key: bytes) -> None:
        conditions = conditions_of(req.raw_headers)
        request = _request_key(req, "DELETE", key, b"", conditions)
        if conditions is None:
            done = await self.write(req, Delete((key,)), request=request)
        else:
            done = await self.write_on_conditions(req, key, Delete((key,)), conditions, request)
        self.stamp_replayed(resp, done.is_replayed)
        self.answer_write(resp, done.end, _deleted(key, done.result))


def _written(key: bytes, version: Place) -> object:
    return {"success": True, "key": key.decode(), "version": str(version)}


def _deleted(key: bytes, number: object) -> object:
    return {"deleted": bool(number), "key": key.decode()}


def hot_routes() -> list[HotRoute]:
    """Return the routes of the short way, for requests without conditions but of a GET."""
    reading = ReadRoute("GET", _PATH, NodeApi.get, _value)
    reading.without_body(None)
    reading.has_etag = True
    reading.encode, reading.type_lines = bytes, header_lines(_VALUE_HEADERS)
    deleting = WriteRoute(
        "DELETE",
        _PATH,
        lambda key, body: Delete((key,)),
        lambda key, body, number: _deleted(key, number),
    )
    deleting.without_body(None)
    putting = WriteRoute("PUT", _PATH, Set, lambda key, value, result: result)
    putting.lengths = (0, LENGTH)
    putting.finish = _finish_put
    return [reading, putting, deleting]


def _finish_put(key: bytes, body: bytes, result: SetResult, reigns: Reigns) -> tuple[str, object]:
    version = reigns.place(result.version)
    return header_lines((("ETag", etag_of(version)),)), _written(key, version)


def _value(key: bytes, body: None, record: Record | None) -> bytes | KeyNotFound:
    return not_found(key) if record is None else record.value


def _request_key(
    req: Request, method: str, key: bytes, value: bytes, conditions: Conditions | None
) -> RequestKey | None:
    """Return what the client calls the request; None where it has no name."""
    parts = (f"{method} {_PATH}".encode(), key, value, req.query_string.encode())
    return request_key(req.raw_headers, parts, is_conditional=conditions is not None)


def _expiry_ms(req: Request) -> int | None:
    if "ttl" not in req.params:
        return None
    ttl = integer_param(req, "ttl")
    if ttl < 0:
        raise FieldInvalid("parameter 'ttl' is below 0")
    return bodies.expiry_after(ttl, begun_ms())
