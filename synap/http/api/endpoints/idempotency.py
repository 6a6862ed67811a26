"""`GET /idempotency/{key}`: whether a request with this key has taken effect."""

from __future__ import annotations

from falcon.asgi import Response

from synap.http.api.idempotency import checked_key
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.request_errors import RequestUnknown
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoint."""
    app.add_route("/idempotency/{key:key}", RememberedRequest(node, api))


class RememberedRequest(Resource):
    """What is remembered of one of the caller's requests, on any node."""

    async def on_get(self, req: Request, resp: Response, key: bytes) -> None:
        await self.await_applied(req)
        name = checked_key(key)
        found, end = self._api.find_request(req.caller, name)
        await self.await_held(req, end.offset if found is None else found[0].version, end)
        self.stamp_read(resp, end)
        if found is None:
            raise RequestUnknown
        stored, record = found
        position = self._node.reigns(end.history).token(stored.version)
        self.answer_read(
            resp,
            end,
            {
                "key": name.decode(),
                "position": position,
                "outcome": "changed" if record.has_changed else "unchanged",
                "expires_at_ms": stored.expiry_ms,
            },
        )
