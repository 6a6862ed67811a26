"""`/health`, `/health/replication` and `/digest`: the node itself.

What the health endpoints say comes from the board, which the log's owner keeps, so they answer also
while the store can't be read.
"""

from __future__ import annotations

import orjson
from falcon.asgi import Response

from synap import __version__
from synap.errors import ReadRefused
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.node_facts import NodeFacts
from synap.shared.board import BoardView, silent_owner, unacknowledged


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the node's own endpoints."""
    health = Health(node, api)
    app.add_route("/health", health)
    app.add_route("/health/replication", health, suffix="replication")
    app.add_route("/cluster", health, suffix="cluster")
    app.add_route("/digest", Digest(node, api))


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
