"""`/key/…`: keys as names, whatever they hold."""

from __future__ import annotations

from falcon.asgi import Response

from synap.commands import Command
from synap.http import bodies
from synap.http.calls import Calls
from synap.http.local import LocalNode
from synap.http.request import App, Request
from synap.http.resource import Resource

_destination_body = bodies.decoder(bodies.DestinationBody)


def add_routes(app: App, node: LocalNode, calls: Calls) -> None:
    """Add `/key/…`."""
    names = Names(node, calls)
    app.add_route("/key/randomkey", names, suffix="randomkey")
    for word in ("type", "exists"):
        app.add_route(f"/key/{{key:key}}/{word}", names, suffix=word)
    moves = Moves(node, calls)
    for word in ("rename", "renamenx", "copy"):
        app.add_route(f"/key/{{key:key}}/{word}", moves, suffix=word)


class Names(Resource):
    """Whether keys exist."""

    async def on_get_type(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_min_offset(req)
        record, offset = self._calls.look(req.caller, key)
        kind = "none" if record is None else "string"
        self.answer_read(resp, offset, {"key": key.decode(), "type": kind})

    async def on_get_exists(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_min_offset(req)
        record, offset = self._calls.look(req.caller, key)
        self.answer_read(resp, offset, {"key": key.decode(), "exists": record is not None})

    async def on_get_randomkey(self, req: Request, resp: Response) -> None:
        await self.await_min_offset(req)
        key, offset = await self._calls.random_key(req.caller)
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
