"""`/health`, `/health/replication`, `/digest` and `/digest/range`: the node itself.

What the health endpoints say comes from the board, which the log's owner keeps, so they answer also
while the store can't be read.
"""

from __future__ import annotations

import base64

import orjson
from falcon.asgi import Response

from synap import __version__
from synap.errors import ReadRefused
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param, text_param
from synap.request_errors import InvalidRequest
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.node_facts import NodeFacts
from synap.shared.board import BoardView, silent_owner, unacknowledged

# Records of which one answer tells at most.
MAX_RANGE_RECORDS = 10_000
_SPACES = range(3)
_LONGEST_KEY = 511


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the node's own endpoints."""
    health = Health(node, api)
    app.add_route("/health", health)
    app.add_route("/health/replication", health, suffix="replication")
    app.add_route("/cluster", health, suffix="cluster")
    app.add_route("/digest", Digest(node, api))
    app.add_route("/digest/range", DigestOfRange(node, api))


class Health(Resource):
    """Whether the node does what its role promises."""

    async def on_get(self, req: Request, resp: Response) -> None:
        view = self._node.view
        reasons = self._reasons(view)
        answer: dict[str, object] = {
            "status": "unhealthy" if reasons else "healthy",
            "service": "synap",
            "version": __version__,
            "role": self._node.role,
        }
        if reasons:
            resp.status = 503
            answer["reasons"] = reasons
        if view.read_only:
            answer["read_only"] = view.read_only
        unfit = unacknowledged(view)
        if unfit:
            answer["acknowledges_no_writes"] = unfit
        resp.data = orjson.dumps(answer)

    async def on_get_replication(self, req: Request, resp: Response) -> None:
        resp.data = orjson.dumps(await NodeFacts(self._node, self._api).replication())

    async def on_get_cluster(self, req: Request, resp: Response) -> None:
        resp.data = orjson.dumps(await NodeFacts(self._node, self._api).cluster())

    def _reasons(self, view: BoardView) -> list[str]:
        reasons = []
        try:
            self._node.reader()
        except ReadRefused as error:
            reasons.append(error.reason)
        silent = silent_owner(view)
        if silent:
            reasons.append(silent)
        return reasons


class Digest(Resource):
    """The checksum of the whole store."""

    async def on_get(self, req: Request, resp: Response) -> None:
        await self.await_applied(req)
        end, keys, digest = await self._api.digest(req.caller)
        self.answer_read(resp, end, {"offset": end.offset, "keys": keys, "digest": digest})


class DigestOfRange(Resource):
    """A sum over the records of a range of keys, for whoever compares nodes."""

    async def on_get(self, req: Request, resp: Response) -> None:
        space = integer_param(req, "space", 0)
        limit = integer_param(req, "limit", MAX_RANGE_RECORDS)
        if space not in _SPACES:
            raise InvalidRequest("parameter 'space' is not 0, 1 or 2")
        if not 1 <= limit <= MAX_RANGE_RECORDS:
            raise InvalidRequest(f"parameter 'limit' is not from 1 to {MAX_RANGE_RECORDS}")
        after, until = _key_param(req, "after") or b"", _key_param(req, "until")
        digest = await self._api.digest_range(req.caller, space, after, until, limit)
        resp.data = orjson.dumps(
            {
                "offset": digest.offset,
                "history": digest.history.hex(),
                "records": digest.records,
                # A number beyond 2^53 is none to every client.
                "sum": f"{digest.sum:016x}",
                "last": base64.urlsafe_b64encode(digest.last).decode().rstrip("="),
                "is_whole": digest.is_whole,
            }
        )


def _key_param(req: Request, name: str) -> bytes | None:
    """Return a key that a query has in base64; None where it has none."""
    text = text_param(req, name)
    if text is None:
        return None
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise InvalidRequest(f"parameter '{name}' is no base64") from error
    if len(key) > _LONGEST_KEY:
        raise InvalidRequest(f"parameter '{name}' is longer than a key")
    return key
