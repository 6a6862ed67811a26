"""`/liveness`, `/readiness`, `/primary`, `/replica`, `/read-only`: for load balancers.

The status code decides, 200 or 503, and the body explains. All of it comes from the board: no look
into the store, no thread and no message, so that they answer while everything else is busy.
"""

from __future__ import annotations

import orjson
from falcon.asgi import Response

from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param
from synap.replication.rules.lag import lag_entries
from synap.replication.rules.progress import LinkState
from synap.request_errors import InvalidRequest
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.shared.board import BoardView, silent_owner, unacknowledged


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoints."""
    balancing = Balancing(node, api)
    for word in ("liveness", "readiness", "primary", "replica"):
        app.add_route(f"/{word}", balancing, suffix=word)
    app.add_route("/read-only", balancing, suffix="read_only")


class Balancing(Resource):
    """What a request may be sent here for."""

    async def on_get_liveness(self, req: Request, resp: Response) -> None:
        self._answer(resp, _owner_reasons(self._node.view))

    async def on_get_readiness(self, req: Request, resp: Response) -> None:
        checks = self._checks()
        reasons = [reason for reason in checks.values() if reason is not None]
        self._answer(resp, reasons, checks if "verbose" in req.params else None)

    async def on_get_primary(self, req: Request, resp: Response) -> None:
        view = self._node.view
        reasons = self._serving_reasons(view)
        if view.role not in ("master", "standalone"):
            reasons.append("not_primary")
        # A master without room answers each write with its reason, and still takes deletes; one
        # whose reign has ended is none any more, one that asks its replicas none yet, and one
        # without the replicas that each write waits for can acknowledge nothing.
        reason = unacknowledged(view)
        if reason:
            reasons.append(reason)
        self._answer(resp, reasons)

    async def on_get_replica(self, req: Request, resp: Response) -> None:
        view = self._node.view
        reasons = self._serving_reasons(view) + self._lag_reasons(req, view)
        if view.role != "replica":
            reasons.append("not_replica")
        self._answer(resp, reasons)

    async def on_get_read_only(self, req: Request, resp: Response) -> None:
        view = self._node.view
        self._answer(resp, self._serving_reasons(view) + self._lag_reasons(req, view))

    def _checks(self) -> dict[str, str | None]:
        """Return what readiness means, each with the reason why it does not hold, or None."""
        view = self._node.view
        reasons = self._serving_reasons(view)
        return {
            "accepting": _one_of(reasons, "draining"),
            "store": _one_of(reasons, "starting", "syncing"),
            "log_owner": _one_of(reasons, "writer_silent", "replica_silent"),
            "replication": _one_of(reasons, "diverged"),
        }

    def _serving_reasons(self, view: BoardView) -> list[str]:
        """Return why this node should get no requests at all."""
        reasons = ["draining"] if self._node.draining else []
        if not view.role:
            reasons.append("starting")
        elif view.role == "replica" and not view.first_sync_done:
            reasons.append("syncing")
        if view.status == LinkState.DIVERGED:
            reasons.append("diverged")
        return reasons + _owner_reasons(view)

    def _lag_reasons(self, req: Request, view: BoardView) -> list[str]:
        """Return why a replica's data is too old for what the request allows."""
        most_ms = _limit(req, "max_lag_ms", self._node.config.replication.max_lag_ms)
        most_entries = _limit(req, "max_lag_entries", None)
        if view.role != "replica" or most_ms is None:
            return []
        reasons = ["lag_ms"] if self._node.lag_ms() > most_ms else []
        entries = lag_entries(view.master_offset, view.applied_offset)
        if most_entries is not None and entries > most_entries:
            reasons.append("lag_entries")
        return reasons

    def _answer(
        self, resp: Response, reasons: list[str], checks: dict[str, str | None] | None = None
    ) -> None:
        view = self._node.view
        answer: dict[str, object] = {
            "ok": not reasons,
            "role": self._node.role,
            "reasons": reasons,
            "read_only": view.read_only or None,
        }
        if view.role == "replica":
            answer["lag_ms"] = self._node.lag_ms()
            answer["lag_entries"] = lag_entries(view.master_offset, view.applied_offset)
        if checks is not None:
            answer["checks"] = {name: reason or "ok" for name, reason in checks.items()}
        resp.status = 503 if reasons else 200
        resp.data = orjson.dumps(answer)


def _owner_reasons(view: BoardView) -> list[str]:
    silent = silent_owner(view)
    return [silent] if silent else []


def _one_of(reasons: list[str], *words: str) -> str | None:
    return next((reason for reason in reasons if reason in words), None)


def _limit(req: Request, name: str, default: int | None) -> int | None:
    if name not in req.params:
        return default
    limit = integer_param(req, name)
    if limit < 0:
        raise InvalidRequest(f"parameter '{name}' is below 0")
    return limit
