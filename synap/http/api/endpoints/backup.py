"""`GET /backup`: one consistent image of the store, streamed with its manifest and checksum.

The copy is made in a thread, into a file without a name: however the request ends, nothing of it
stays on the disk. `docs/backup-format.md` has the format.
"""

from __future__ import annotations

import asyncio

from falcon.asgi import Response

from synap.backup.archive import Backup
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.place import LogEnd
from synap.position import NO_HISTORY
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

CHECKSUM = "X-Synap-Checksum"
# A client that takes no byte for so long has gone; the copy's room is given back.
_STALLED_SECONDS = 60.0


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoint."""
    app.add_route("/backup", Backups(node, api))


class Backups(Resource):
    """The node's data as one file."""

    async def on_get(self, req: Request, resp: Response) -> None:
        await self.await_applied(req)
        resp.content_type = "application/octet-stream"
        if req.method == "HEAD":
            return
        backup = await self._api.backup(req.caller)
        offset, lineage = backup.manifest.position.offset, backup.manifest.lineage
        self.stamp_read(resp, LogEnd(offset, lineage[-1].history if lineage else NO_HISTORY))
        resp.set_header(CHECKSUM, f"sha256:{backup.checksum}")
        resp.downloadable_as = f"synap_{offset:020d}.backup"
        resp.set_stream(BackupStream(backup), backup.total_bytes)


class BackupStream:
    """A backup's bytes, chunk by chunk; each is read in a thread."""

    def __init__(self, backup: Backup) -> None:
        self._loop = asyncio.get_running_loop()
        self._backup = backup
        self._alarm = self._set_alarm()

    def __aiter__(self) -> BackupStream:
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk.

        Raises:
            ValueError: the client took too long for the one before.
        """
        self._alarm.cancel()
        chunk = await self._loop.run_in_executor(None, self._backup.next_chunk)
        if not chunk:
            raise StopAsyncIteration
        self._alarm = self._set_alarm()
        return chunk

    async def close(self) -> None:
        """Give back the room on the disk. Called by Falcon, also where the client went away."""
        self._alarm.cancel()
        await self._loop.run_in_executor(None, self._backup.close)

    def _set_alarm(self) -> asyncio.TimerHandle:
        # Also what closes a backup whose answer was never begun, because the client had gone.
        return self._loop.call_later(_STALLED_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._loop.run_in_executor(None, self._backup.close)
