"""`/raw/{key}`: values as the bytes they are, with conditions on their version."""

from __future__ import annotations

from falcon.asgi import Response

from synap.commands.keys import CONDITION_FAILED, Delete
from synap.commands.keyspace import ABSENT
from synap.commands.strings import Set, SetResult
from synap.http.api import bodies
from synap.http.api.etags import Tags, etag_of, is_named, parse_tags
from synap.http.api.headers import IF_MATCH, IF_NONE_MATCH, HeaderName
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param
from synap.place import Place
from synap.request_errors import FieldInvalid, PreconditionFailed
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi, not_found
from synap.shared.node_clock import begun_ms

_ANY = Tags(is_any=True)
# How often a write is tried whose condition holds here while others write the key.
_ATTEMPTS = 8


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
        unwanted = req.raw_headers.get(IF_NONE_MATCH)
        if unwanted is not None and is_named(unwanted, version):
            resp.status = 304
            return
        resp.content_type = "application/octet-stream"
        # A browser must not take a stored page for a page of this site.
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.data = record.value

    async def on_put(self, req: Request, resp: Response, key: bytes) -> None:
        expiry_ms = _expiry_ms(req)
        wanted, unwanted = _tags(req, IF_MATCH), _tags(req, IF_NONE_MATCH)
        is_conditional = wanted is not None or unwanted is not None
        # Whoever may not gets to know nothing of the key, on a replica as on a master.
        self._api.require_for(
            req.caller, Set(key, b"", if_version=ABSENT if is_conditional else None)
        )
        value = await req.body(self._max_body_bytes)
        for _ in range(_ATTEMPTS):
            nx, xx, if_version = self._condition(req, key, wanted, unwanted)
            command = Set(key, value, expiry_ms, nx, xx, if_version=if_version)
            done = await self.write(req, command)
            result = done.result
            assert isinstance(result, SetResult)
            if result.written:
                version = self._node.reigns(done.history).place(result.version)
                resp.set_header("ETag", etag_of(version))
                answer = {"success": True, "key": key.decode(), "version": str(version)}
                self.answer_write(resp, done.end, answer)
                return
            self.stamp_write(resp, done.end)
            if if_version is None:
                break
        raise PreconditionFailed

    async def on_delete(self, req: Request, resp: Response, key: bytes) -> None:
        wanted, unwanted = _tags(req, IF_MATCH), _tags(req, IF_NONE_MATCH)
        is_conditional = wanted is not None or unwanted is not None
        self._api.require_for(req.caller, Delete((key,), ABSENT if is_conditional else None))
        for _ in range(_ATTEMPTS):
            if_version = None
            if wanted is not None or unwanted is not None:
                if_version = self._version(req, key)
                _check(if_version, wanted, unwanted)
            done = await self.write(req, Delete((key,), if_version))
            if done.result != CONDITION_FAILED:
                answer = {"deleted": bool(done.result), "key": key.decode()}
                self.answer_write(resp, done.end, answer)
                return
            self.stamp_write(resp, done.end)
        raise PreconditionFailed

    def _condition(
        self, req: Request, key: bytes, wanted: Tags | None, unwanted: Tags | None
    ) -> tuple[bool, bool, Place | None]:
        """Return nx, xx and if_version which make the log's owner check the headers once more.

        Raises:
            PreconditionFailed: they do not hold already here.
        """
        if unwanted == _ANY and wanted is None:
            return True, False, None
        if wanted == _ANY and unwanted is None:
            return False, True, None
        if wanted is None and unwanted is None:
            return False, False, None
        version = self._version(req, key)
        _check(version, wanted, unwanted)
        return False, False, version

    def _version(self, req: Request, key: bytes) -> Place:
        return self.version_of(*self._api.look(req.caller, key))


def _check(version: Place, wanted: Tags | None, unwanted: Tags | None) -> None:
    is_unwanted = unwanted is not None and unwanted.holds_weak(version)
    if is_unwanted or (wanted is not None and not wanted.holds_strong(version)):
        raise PreconditionFailed


def _tags(req: Request, name: HeaderName) -> Tags | None:
    text = req.raw_headers.get(name)
    return None if text is None else parse_tags(text, name.decode())


def _expiry_ms(req: Request) -> int | None:
    if "ttl" not in req.params:
        return None
    ttl = integer_param(req, "ttl")
    if ttl < 0:
        raise FieldInvalid("parameter 'ttl' is below 0")
    return bodies.expiry_after(ttl, begun_ms())
