"""`/replication/…`: the node's role and past, and what an operator decides about a replica.

`promote` and `follow`: the log's owner decides and is replaced by the owner of the new role; the
answer comes when that one is master. `pause`, `resume` and `step-down` are what a switchover
does to the old master, `accept` ends the state `diverged`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import msgspec
import orjson
from falcon.asgi import Response

from synap.addresses import following_port, split_address
from synap.errors import AgentRuns, DataDirLost
from synap.http.api import bodies
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.ipc.admin_messages import (
    MAX_PAUSE_SECONDS,
    AcceptMaster,
    ClockConfirmed,
    ConfirmClock,
    Follow,
    ForgetReplica,
    MasterAccepted,
    PauseCommand,
    PauseState,
    PauseWrites,
    Promote,
    ReplicaForgotten,
    ResumeWrites,
    RoleTaken,
    Seal,
    SealKept,
    StepDown,
)
from synap.node.past import read_past
from synap.request_errors import FieldInvalid
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

# The owner ends its work on the log before it says that the role is changed.
_ANSWER_SECONDS = 60.0
# The next owner opens the log, which takes moments after a clean end.
_OFFICE_SECONDS = 10.0
_LOOK_SECONDS = 0.02
# What the owner answers between two turns.
_SHORT_ANSWER_SECONDS = 10.0


class PromoteBody(msgspec.Struct, gc=False):
    """`/replication/promote`."""

    force: bool = False
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0


class SealBody(msgspec.Struct, gc=False):
    """`/replication/seal`."""

    epoch: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    candidate: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class FollowBody(msgspec.Struct, gc=False):
    """`/replication/follow`."""

    master_address: str
    master_sync_address: str | None = None
    force: bool = False

    def command(self) -> Follow:
        """Return the command.

        Raises:
            FieldInvalid: an address is not host:port.
        """
        _check_address("master_address", self.master_address)
        sync_address = self.master_sync_address or following_port(self.master_address)
        _check_address("master_sync_address", sync_address)
        return Follow(self.master_address, sync_address, self.force)


class PauseBody(msgspec.Struct, gc=False):
    """`/replication/pause`."""

    seconds: float = 10.0

    def command(self) -> PauseWrites:
        """Return the command.

        Raises:
            FieldInvalid: the pause is too long or none.
        """
        if not 0 < self.seconds <= MAX_PAUSE_SECONDS:
            raise FieldInvalid(f"field 'seconds' is not above 0 and at most {MAX_PAUSE_SECONDS:g}")
        return PauseWrites(self.seconds)


class StepDownBody(msgspec.Struct, gc=False):
    """`/replication/step-down`."""

    offset: int
    master_url: str = ""


class ForgetBody(msgspec.Struct, gc=False):
    """`/replication/forget`."""

    replica: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


_promote_body = bodies.decoder(PromoteBody)
_seal_body = bodies.decoder(SealBody)
_follow_body = bodies.decoder(FollowBody)
_pause_body = bodies.decoder(PauseBody)
_step_down_body = bodies.decoder(StepDownBody)
_forget_body = bodies.decoder(ForgetBody)


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoints."""
    roles = ReplicationEndpoints(node, api)
    app.add_route("/replication/promote", roles, suffix="promote")
    app.add_route("/replication/follow", roles, suffix="follow")
    app.add_route("/replication/seal", Sealing(node, api))
    app.add_route("/replication/history", History(node, api))
    writes = Writes(node, api)
    app.add_route("/replication/pause", writes, suffix="pause")
    app.add_route("/replication/resume", writes, suffix="resume")
    app.add_route("/replication/step-down", writes, suffix="step_down")
    app.add_route("/clock/confirm", Clock(node, api))
    app.add_route("/replication/accept", Acceptance(node, api))
    app.add_route("/replication/forget", Forgetting(node, api))


class ReplicationEndpoints(Resource):
    """The node's role."""

    async def on_post_promote(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _promote_body, default=b"{}")
        await self._take(req, resp, Promote(body.force, body.epoch))

    async def on_post_follow(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _follow_body)
        await self._take(req, resp, body.command())

    async def _take(self, req: Request, resp: Response, command: Promote | Follow) -> None:
        agent = self._node.failover()
        if agent is not None and not agent.get("is_paused"):
            raise AgentRuns
        owner_pid = self._node.view.owner_pid
        taken = await self._api.administer(req.caller, command, _ANSWER_SECONDS)
        assert isinstance(taken, RoleTaken)
        in_office = not taken.is_changed or await self._wait_for_office(taken.role, owner_pid)
        self.stamp_read(resp, self._node.own_end(taken.offset))
        resp.data = orjson.dumps(
            {
                "success": True,
                "role": taken.role,
                "epoch": taken.epoch,
                "offset": taken.offset,
                "changed": taken.is_changed,
                "in_office": in_office,
                "lost": taken.lost,
            }
        )

    async def _wait_for_office(self, role: str, owner_pid: int) -> bool:
        """Wait, bounded, until another owner shows itself in `role`; say whether it did."""
        deadline = time.monotonic() + _OFFICE_SECONDS
        while time.monotonic() < deadline:
            view = self._node.view
            if view.role == role and view.owner_pid not in (0, owner_pid):
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False


class History(Resource):
    """The reigns of the node's log."""

    async def on_get(self, req: Request, resp: Response) -> None:
        try:
            past = await asyncio.to_thread(read_past, self._node.paths)
        except OSError as error:
            raise DataDirLost from error
        resp.data = orjson.dumps({"reigns": msgspec.to_builtins(past)})


class Writes(Resource):
    """The writes of a master that hands its role over."""

    async def on_post_pause(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _pause_body, default=b"{}")
        await self._ask(req, resp, body.command())

    async def on_post_resume(self, req: Request, resp: Response) -> None:
        await self._ask(req, resp, ResumeWrites())

    async def on_post_step_down(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _step_down_body)
        await self._ask(req, resp, StepDown(body.offset, body.master_url))

    async def _ask(self, req: Request, resp: Response, command: PauseCommand) -> None:
        state = await self._api.administer(req.caller, command, _SHORT_ANSWER_SECONDS)
        assert isinstance(state, PauseState)
        self.stamp_read(resp, self._node.own_end(state.offset))
        resp.data = orjson.dumps(
            {
                "success": True,
                "offset": state.offset,
                "epoch": state.epoch,
                "seconds": round(state.seconds, 3),
            }
        )


class Sealing(Resource):
    """A promise to a candidate."""

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _seal_body)
        command = Seal(body.epoch, body.candidate)
        kept = await self._api.administer(req.caller, command, _SHORT_ANSWER_SECONDS)
        assert isinstance(kept, SealKept)
        resp.data = orjson.dumps({"success": True, "epoch": kept.epoch, "rank": kept.rank})


class Forgetting(Resource):
    """The operator's word on a replica that is gone for good."""

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _forget_body)
        command = ForgetReplica(body.replica)
        forgotten = await self._api.administer(req.caller, command, _SHORT_ANSWER_SECONDS)
        assert isinstance(forgotten, ReplicaForgotten)
        resp.data = orjson.dumps({"success": True, "replica": forgotten.name})


class Clock(Resource):
    """The operator's word on a clock that has jumped."""

    async def on_post(self, req: Request, resp: Response) -> None:
        confirmed = await self._api.administer(req.caller, ConfirmClock(), _SHORT_ANSWER_SECONDS)
        assert isinstance(confirmed, ClockConfirmed)
        resp.data = orjson.dumps({"success": True, "seconds": round(confirmed.seconds, 3)})


class Acceptance(Resource):
    """The operator's word on a diverged replica."""

    async def on_post(self, req: Request, resp: Response) -> None:
        command = AcceptMaster()
        accepted = await self._api.administer(req.caller, command, _SHORT_ANSWER_SECONDS)
        assert isinstance(accepted, MasterAccepted)
        resp.data = orjson.dumps({"success": True, "directory": accepted.directory})


def _check_address(field: str, address: str) -> None:
    if "://" in address:
        raise FieldInvalid(
            f"field '{field}': it is a URL; a replication socket is named host:port, as node1:15501"
        )
    try:
        split_address(address)
    except ValueError as error:
        raise FieldInvalid(f"field '{field}': {error}") from error
