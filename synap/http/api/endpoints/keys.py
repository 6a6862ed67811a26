"""`/kv/…` and `/key/…`: reading and writing keys, and keys as names, whatever they hold."""

from __future__ import annotations

import orjson
from falcon.asgi import Response

from synap.commands.commands import Command
from synap.commands.keys import Delete, Expire, Persist
from synap.commands.records import slice_range
from synap.commands.strings import Append, GetSet, Increment, SetRange, SetResult
from synap.commands.values import byte_list, readable, readable_all, stored_bytes
from synap.http.api import bodies
from synap.http.api.errors import answer_error
from synap.http.api.etags import etag_of, is_named
from synap.http.api.request import App, Request
from synap.http.api.resource import MIN_OFFSET, Resource, integer_param, text_param
from synap.request_errors import InvalidRequest
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi, not_found, now_ms, seconds_left

_set_body = bodies.decoder(bodies.SetBody)
_keys_body = bodies.decoder(bodies.KeysBody)
_amount_body = bodies.decoder(bodies.AmountBody)
_value_body = bodies.decoder(bodies.ValueBody)
_range_body = bodies.decoder(bodies.RangeBody)
_ttl_body = bodies.decoder(bodies.TtlBody)
_destination_body = bodies.decoder(bodies.DestinationBody)

_DEFAULT_PAGE_KEYS = 100


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add `/kv/…` and `/key/…`; each word that follows /kv/ here stands in `routing.KV_WORDS`."""
    whole = WholeKeys(node, api)
    app.add_route("/kv/get/{key:key}", whole, suffix="value")
    app.add_route("/kv/set", whole, suffix="set")
    app.add_route("/kv/del/{key:key}", whole, suffix="removal")
    many = ManyKeys(node, api)
    for word in ("mset", "msetnx", "mget", "mdel", "scan", "stats"):
        app.add_route(f"/kv/{word}", many, suffix=word)
    numbers = Numbers(node, api)
    app.add_route("/kv/incr", numbers, suffix="incr")
    app.add_route("/kv/decr", numbers, suffix="decr")
    parts = Parts(node, api)
    for word in ("append", "getrange", "setrange", "strlen", "getset"):
        app.add_route(f"/kv/{{key:kv_key}}/{word}", parts, suffix=word)
    deadlines = Deadlines(node, api)
    for word in ("expire", "persist", "ttl"):
        app.add_route(f"/kv/{{key:kv_key}}/{word}", deadlines, suffix=word)
    names = Names(node, api)
    app.add_route("/key/randomkey", names, suffix="randomkey")
    for word in ("type", "exists"):
        app.add_route(f"/key/{{key:key}}/{word}", names, suffix=word)
    moves = Moves(node, api)
    for word in ("rename", "renamenx", "copy"):
        app.add_route(f"/key/{{key:key}}/{word}", moves, suffix=word)


class WholeKeys(Resource):
    """One key, read or written as a whole. The short requests that a node mostly gets."""

    async def on_get_value(self, req: Request, resp: Response, key: bytes) -> None:
        headers = req.raw_headers
        if MIN_OFFSET in headers:
            await self.await_min_offset(req)
        record, offset = self._api.get(req.caller, key)
        self.stamp_read(resp, offset)
        if record is None:
            answer_error(resp, not_found(key))
            return
        resp.set_header("ETag", etag_of(record.version))
        unwanted = headers.get(b"if-none-match")
        if unwanted is not None and is_named(unwanted, record.version):
            resp.status = 304
        elif req.query_string and _wants_bytes(req):
            resp.data = orjson.dumps(byte_list(record.value))
        else:
            resp.data = orjson.dumps(readable(record.value))

    async def on_post_set(self, req: Request, resp: Response) -> None:
        body = _set_body(await req.json_body(self._max_body_bytes))
        done = await self.write(req, body.command(now_ms))
        self.stamp_write(resp, done.offset)
        resp.data = set_answer(body, done.result)

    async def on_delete_removal(self, req: Request, resp: Response, key: bytes) -> None:
        done = await self.write(req, Delete((key,)))
        self.answer_write(resp, done.offset, {"deleted": bool(done.result), "key": key.decode()})


class ManyKeys(Resource):
    """Several keys in one request."""

    async def on_post_mset(self, req: Request, resp: Response) -> None:
        command = bodies.set_many(await req.json_body(self._max_body_bytes), nx=False)
        done = await self.write(req, command)
        self.answer_write(resp, done.offset, {"success": done.result})

    async def on_post_msetnx(self, req: Request, resp: Response) -> None:
        command = bodies.set_many(await req.json_body(self._max_body_bytes), nx=True)
        done = await self.write(req, command)
        self.answer_write(resp, done.offset, {"success": done.result})

    async def on_post_mget(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _keys_body)
        await self.await_min_offset(req)
        values, offset = await self._api.get_many(req.caller, body.encoded())
        self.answer_read(resp, offset, {"values": readable_all(values)})

    async def on_post_mdel(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _keys_body)
        done = await self.write(req, Delete(body.encoded()))
        self.answer_write(resp, done.offset, {"deleted": done.result})

    async def on_get_scan(self, req: Request, resp: Response) -> None:
        prefix, pattern = text_param(req, "prefix"), text_param(req, "pattern")
        limit = integer_param(req, "limit", _DEFAULT_PAGE_KEYS)
        await self.await_min_offset(req)
        page = await self._api.scan(
            req.caller,
            prefix=(prefix or "").encode(),
            pattern=None if pattern is None else pattern.encode(),
            cursor=text_param(req, "cursor") or None,
            limit=limit,
        )
        self.answer_read(resp, page.offset, page.shown())

    async def on_get_stats(self, req: Request, resp: Response) -> None:
        await self.await_min_offset(req)
        stats = await self._api.stats(req.caller)
        self.answer_read(resp, stats.offset, stats.shown())


class Numbers(Resource):
    """Keys that hold an integer."""

    async def on_post_incr(self, req: Request, resp: Response) -> None:
        await self._add(req, resp, sign=1)

    async def on_post_decr(self, req: Request, resp: Response) -> None:
        await self._add(req, resp, sign=-1)

    async def _add(self, req: Request, resp: Response, sign: int) -> None:
        body = await self.read_body(req, _amount_body)
        amount = sign * body.checked_amount()
        done = await self.write(req, Increment(body.key.encode(), amount))
        self.answer_write(resp, done.offset, {"value": done.result})


class Parts(Resource):
    """Parts of a value, and its exchange."""

    async def on_post_append(self, req: Request, resp: Response, key: bytes) -> None:
        body = await self.read_body(req, _value_body)
        done = await self.write(req, Append(key, stored_bytes(body.value)))
        self.answer_write(resp, done.offset, {"length": done.result})

    async def on_get_getrange(self, req: Request, resp: Response, key: bytes) -> None:
        start, end = integer_param(req, "start"), integer_param(req, "end")
        await self.await_min_offset(req)
        record, offset = self._api.get(req.caller, key)
        self.stamp_read(resp, offset)
        if record is None:
            raise not_found(key)
        resp.data = orjson.dumps(readable(slice_range(record.value, start, end)))

    async def on_post_setrange(self, req: Request, resp: Response, key: bytes) -> None:
        body = await self.read_body(req, _range_body)
        command = SetRange(key, body.checked_offset(), stored_bytes(body.value))
        done = await self.write(req, command)
        self.answer_write(resp, done.offset, {"length": done.result})

    async def on_get_strlen(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_min_offset(req)
        record, offset = self._api.look(req.caller, key)
        self.answer_read(resp, offset, {"length": 0 if record is None else len(record.value)})

    async def on_post_getset(self, req: Request, resp: Response, key: bytes) -> None:
        body = await self.read_body(req, _value_body)
        done = await self.write(req, GetSet(key, stored_bytes(body.value)))
        assert done.result is None or isinstance(done.result, bytes)
        self.answer_write(resp, done.offset, _readable_or_none(done.result))


class Deadlines(Resource):
    """When a key is gone."""

    async def on_post_expire(self, req: Request, resp: Response, key: bytes) -> None:
        body = await self.read_body(req, _ttl_body)
        done = await self.write(req, Expire(key, bodies.expiry_after(body.ttl, now_ms())))
        self.answer_write(resp, done.offset, {"result": done.result})

    async def on_post_persist(self, req: Request, resp: Response, key: bytes) -> None:
        done = await self.write(req, Persist(key))
        self.answer_write(resp, done.offset, {"result": done.result})

    async def on_get_ttl(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_min_offset(req)
        record, offset = self._api.look(req.caller, key)
        self.stamp_read(resp, offset)
        if record is None:
            raise not_found(key)
        resp.data = orjson.dumps({"ttl": seconds_left(record)})


def set_answer(body: bodies.SetBody, result: object) -> bytes:
    """Return the JSON that answers a SET.

    Args:
        body: What was asked for.
        result: What the log's owner made of it, a SetResult.
    """
    assert isinstance(result, SetResult)
    answer = {"success": True, "key": body.key, "written": result.written}
    if body.get:
        answer["old_value"] = _readable_or_none(result.old)
    return orjson.dumps(answer)


class Names(Resource):
    """Whether keys exist."""

    async def on_get_type(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_min_offset(req)
        record, offset = self._api.look(req.caller, key)
        kind = "none" if record is None else "string"
        self.answer_read(resp, offset, {"key": key.decode(), "type": kind})

    async def on_get_exists(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_min_offset(req)
        record, offset = self._api.look(req.caller, key)
        self.answer_read(resp, offset, {"key": key.decode(), "exists": record is not None})

    async def on_get_randomkey(self, req: Request, resp: Response) -> None:
        await self.await_min_offset(req)
        key, offset = await self._api.random_key(req.caller)
        self.answer_read(resp, offset, {"key": key})


class Moves(Resource):
    """A key's content under another name."""

    async def on_post_rename(self, req: Request, resp: Response, key: bytes) -> None:
        body = await self.read_body(req, _destination_body)
        await self._move(req, resp, key, body, body.rename(key, nx=False))

    async def on_post_renamenx(self, req: Request, resp: Response, key: bytes) -> None:
        body = await self.read_body(req, _destination_body)
        await self._move(req, resp, key, body, body.rename(key, nx=True))

    async def on_post_copy(self, req: Request, resp: Response, key: bytes) -> None:
        body = await self.read_body(req, _destination_body)
        await self._move(req, resp, key, body, body.copy(key))

    async def _move(
        self,
        req: Request,
        resp: Response,
        key: bytes,
        body: bodies.DestinationBody,
        command: Command,
    ) -> None:
        done = await self.write(req, command)
        names = {"source": key.decode(), "destination": body.destination}
        self.answer_write(resp, done.offset, {"success": done.result} | names)


def _wants_bytes(req: Request) -> bool:
    shape = text_param(req, "type") or "string"
    if shape not in ("string", "bytes"):
        raise InvalidRequest("parameter 'type' is neither 'string' nor 'bytes'")
    return shape == "bytes"


def _readable_or_none(value: bytes | None) -> str | None:
    return None if value is None else readable(value)
