"""`POST /snapshot`, `POST /verify`: work that the log's owner does for the operator."""

from __future__ import annotations

import orjson
from falcon.asgi import Response

from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.ipc.admin_messages import SnapshotTaken, StoreVerified, TakeSnapshot, VerifyStore
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

# A store of many GiB takes minutes to write and to read back.
_SNAPSHOT_SECONDS = 3600.0


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the operator's endpoints."""
    app.add_route("/snapshot", Snapshots(node, api))
    app.add_route("/verify", Verification(node, api))


class Snapshots(Resource):
    """The node's snapshots."""

    async def on_post(self, req: Request, resp: Response) -> None:
        taken = await self._api.administer(req.caller, TakeSnapshot(), _SNAPSHOT_SECONDS)
        assert isinstance(taken, SnapshotTaken)
        self.stamp_read(resp, self._node.own_end(taken.offset))
        resp.data = orjson.dumps(
            {
                "success": True,
                "message": f"the snapshot of offset {taken.offset} is durable and verified",
                "offset": taken.offset,
                "file": taken.path,
            }
        )


class Verification(Resource):
    """The look at every record of the live store."""

    async def on_post(self, req: Request, resp: Response) -> None:
        verified = await self._api.administer(req.caller, VerifyStore(), _SNAPSHOT_SECONDS)
        assert isinstance(verified, StoreVerified)
        resp.data = orjson.dumps(
            {
                "success": not (verified.damaged or verified.differing),
                "records": verified.records,
                "bytes": verified.bytes,
                "damaged": verified.damaged,
                "differing": verified.differing,
            }
        )
