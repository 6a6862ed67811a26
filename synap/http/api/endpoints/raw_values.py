"""`/raw/{key}`: values as the bytes they are, with conditions on their version."""

from __future__ import annotations

from falcon.asgi import Response

from synap.commands.keys import Delete
from synap.commands.keyspace import ABSENT
from synap.commands.strings import Set, SetResult
from synap.http.api import bodies
from synap.http.api.conditions import client_has, conditions_of
from synap.http.api.etags import etag_of
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param
from synap.request_errors import FieldInvalid
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi, not_found
from synap.shared.node_clock import begun_ms


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add `/raw/{key}`."""
    app.add_route("/raw/{key:key}", RawValue(node, api))


class RawValue(Resource):
    """One key's value."""

    async def on_get(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_applied(req)
        record, end = self._api.get(req.caller, key)
        await self.await_held(req, end.offset if record is None else record.version)
        self.stamp_read(resp, end)
        if record is None:
            raise not_found(key)
        version = self.version_of(record, end)
        resp.set_header("ETag", etag_of(version))
        if client_has(req.raw_headers, version):
            resp.status = 304
            return
        resp.content_type = "application/octet-stream"
        # A browser must not take a stored page for a page of this site.
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.data = record.value

    async def on_put(self, req: Request, resp: Response, key: bytes) -> None:
        expiry_ms = _expiry_ms(req)
        conditions = conditions_of(req.raw_headers)
        # Whoever may not is refused before the value is read.
        unread = Set(key, b"", if_version=None if conditions is None else ABSENT)
        self._api.require_for(req.caller, unread)
        command = Set(key, await req.body(self._max_body_bytes), expiry_ms)
        if conditions is None:
            done = await self.write(req, command)
        else:
            done = await self.write_on_conditions(req, key, command, conditions)
        result = done.result
        assert isinstance(result, SetResult)
        version = self._node.reigns(done.history).place(result.version)
        resp.set_header("ETag", etag_of(version))
        answer = {"success": True, "key": key.decode(), "version": str(version)}
        self.answer_write(resp, done.end, answer)

    async def on_delete(self, req: Request, resp: Response, key: bytes) -> None:
        conditions = conditions_of(req.raw_headers)
        if conditions is None:
            done = await self.write(req, Delete((key,)))
        else:
            done = await self.write_on_conditions(req, key, Delete((key,)), conditions)
        answer = {"deleted": bool(done.result), "key": key.decode()}
        self.answer_write(resp, done.end, answer)


def _expiry_ms(req: Request) -> int | None:
    if "ttl" not in req.params:
        return None
    ttl = integer_param(req, "ttl")
    if ttl < 0:
        raise FieldInvalid("parameter 'ttl' is below 0")
    return bodies.expiry_after(ttl, begun_ms())
