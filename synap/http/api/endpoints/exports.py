"""`GET /kv/export` and `POST /kv/import`: keys as lines of JSON, out of one state and in again."""

from __future__ import annotations

import asyncio

from falcon.asgi import Response

from synap.commands.keys import SetMany
from synap.commands.once import RequestKey
from synap.http.api.headers import IDEMPOTENCY_KEY
from synap.http.api.idempotency import described, request_key
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param, text_param
from synap.service.exports import Export, read_lines
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

LINES = "application/x-ndjson"
# A client that takes no byte for so long has gone; what the export holds is given back.
_STALLED_SECONDS = 60.0


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoints."""
    app.add_route("/kv/export", Exports(node, api))
    app.add_route("/kv/import", Imports(node, api))


class Exports(Resource):
    """Everything below a prefix."""

    is_long = True

    async def on_get(self, req: Request, resp: Response) -> None:
        req.caller.require_something()
        await self.await_applied(req)
        resp.content_type = LINES
        if req.method == "HEAD":
            return
        prefix = (text_param(req, "prefix") or "").encode()
        slot = integer_param(req, "slot", -1)
        export = await self._api.export(req.caller, prefix, None if slot < 0 else slot)
        try:
            await self.await_held(req, export.end.offset, export.end)
        except BaseException:
            export.close()
            raise
        self.stamp_read(resp, export.end)
        resp.stream = ExportStream(export, self._node)


class ExportStream:
    """An export's bytes, chunk by chunk; each is made in a thread."""

    def __init__(self, export: Export, node: LocalNode) -> None:
        self._loop = asyncio.get_running_loop()
        self._export = export
        self._node = node
        self._alarm = self._set_alarm()

    def __aiter__(self) -> ExportStream:
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk.

        Raises:
            ValueError: the client took too long for the one before.
            ExportTooLong: the time for all of it is over.
        """
        self._alarm.cancel()
        chunk = b""
        # Keys of other slots, or that this caller may not read, may fill many pieces.
        while not chunk and not self._export.is_done:
            chunk = await self._node.in_thread(self._export.next_chunk)
        if not chunk:
            raise StopAsyncIteration
        self._alarm = self._set_alarm()
        return chunk

    async def close(self) -> None:
        """Give back what it holds. Called by Falcon, also where the client went away."""
        self._alarm.cancel()
        self._export.close()

    def _set_alarm(self) -> asyncio.TimerHandle:
        # Also what closes one whose answer was never begun, because the client had gone.
        return self._loop.call_later(_STALLED_SECONDS, self._export.close)


class Imports(Resource):
    """Takes what an export gave, or a part of it: all of it is written at once."""

    async def on_post(self, req: Request, resp: Response) -> None:
        req.caller.require_some_key("write")
        data = await req.body(self._max_body_bytes)
        command, request = await self._node.in_thread(lambda: _read_import(req, data))
        done = await self.write(req, command, request=request)
        self.stamp_replayed(resp, done.is_replayed)
        self.answer_write(resp, done.end, {"success": True, "written": len(command.pairs)})


def _read_import(req: Request, data: bytes) -> tuple[SetMany, RequestKey | None]:
    """Return what an import comes to, and what the client calls it; for a thread."""
    command = read_lines(data)
    if IDEMPOTENCY_KEY not in req.raw_headers:
        return command, None
    return command, request_key(req.raw_headers, described("POST /kv/import", b"", command))
