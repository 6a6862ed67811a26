"""`/`: what this is, and where to look. Everybody's, and 200 as long as the worker answers."""

from __future__ import annotations

import orjson
from falcon.asgi import Response

from synap import __version__
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

_ANSWER = orjson.dumps(
    {
        "service": "synap",
        "version": __version__,
        "about": "a replicated key-value store; keys are read at /kv/get/{key}, set by /kv/set",
        "docs": "/docs",
        "openapi": "/openapi.json",
        "health": "/health",
        "readiness": "/readiness",
    }
)


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoint."""
    app.add_route("/", Root(node, api))


class Root(Resource):
    """The node as a whole."""

    async def on_get(self, req: Request, resp: Response) -> None:
        resp.data = _ANSWER
