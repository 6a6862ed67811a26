"""What is noted of each request: counts and durations, its id, the slow log, the access log.

One step after every responder, for all of it, so that a request pays for one. It runs when the
answer is made and before it is sent: the time of a streamed answer ends where its stream begins.
What the server refuses before there is a request (a malformed head, say) does not come by here.
"""

from __future__ import annotations

import logging
import re
import time
from bisect import bisect_left
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import falcon
from falcon.asgi import Response

from synap.http.api.access_log import AccessLog, Answered, Listener, Listeners
from synap.http.api.headers import TRACEPARENT
from synap.http.api.request import Request
from synap.http.api.traces import Trace, trace_of
from synap.service.local_node import LocalNode
from synap.shared.series import DURATION_BOUNDS_NS, REQUESTS, Name
from synap.shared.slow_log import SlowEntry

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"

_NS_PER_MS = 1_000_000
# A node on which everything is slow must not make itself slower by saying so.
_SLOW_LINES_NS = 100 * _NS_PER_MS
_FIRST_NS = DURATION_BOUNDS_NS[0]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_CONVERTER = re.compile(r":[^}]*}")

# As falcon's responses have it: a code, or `200 OK`.
Status = int | str | HTTPStatus

_now_ns = time.perf_counter_ns


class Observer:
    """Falcon's middleware that notes every request.

    Attributes:
        listener: Told of each request: the access log, spans, or both; None for neither.
    """

    def __init__(self, node: LocalNode, spans: Listener | None = None) -> None:
        """
        Args:
            spans: Makes spans of requests; None where nobody collects any.
        """
        self._node = node
        # Where nothing is slow, no request takes as long.
        self._slow_ns = node.config.logging.slow_ms * _NS_PER_MS or 1 << 63
        self.listener = spans
        if node.config.logging.access:
            self.listener = AccessLog() if spans is None else Listeners(AccessLog(), spans)
        self._slots: dict[tuple[str | None, str, object], int] = {}
        self._cells = memoryview(bytearray(8)).cast("Q")
        self._next_slow_line_ns = 0
        self._unsaid = 0

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Begin to count; the node's memory is there by now."""
        self._cells = self._node.series.cells

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Write the last lines."""
        if self.listener is not None:
            self.listener.flush()

    async def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        """Note a request whose answer is made. On the path of all of them."""
        elapsed_ns = _now_ns() - req.began_ns
        headers = resp._headers
        headers["x-request-id"] = req.request_id
        headers.setdefault("cache-control", "no-store")
        if self.count(req.uri_template, req.method, resp.status, elapsed_ns):
            command = req.command or f"{req.method} {route_of(req.uri_template)}"
            self.note_slow(
                command, req.target, resp.status_code, req.request_id, elapsed_ns, _trace_of(req)
            )
        if self.listener is not None:
            self.listener.note(
                Answered(
                    req.client_address, req.method, req.target, route_of(req.uri_template),
                    resp.status_code, elapsed_ns, req.request_id, _trace_of(req),
                )
            )  # fmt: skip

    def count(self, template: str | None, method: str, status: Status, elapsed_ns: int) -> bool:
        """Count a request whose answer is made; return whether it was a slow one.

        Args:
            template: Of its route; None where there is none.
            method: As it was sent.
            status: The answer's.
            elapsed_ns: How long that took.
        """
        try:
            slot = self._slots[template, method, status]
        except KeyError:
            slot = self.slot(template, method, status)
        return self.add(slot, elapsed_ns)

    def add(self, slot: int, elapsed_ns: int) -> bool:
        """Count a request in its slot; see `count`."""
        at, cells = slot, self._cells
        cells[at] += elapsed_ns
        if elapsed_ns <= _FIRST_NS:
            # Most are: neither the search for their bucket nor a look at the slow log is worth it.
            cells[at + 1] += 1
            return False
        cells[at + 1 + bisect_left(DURATION_BOUNDS_NS, elapsed_ns)] += 1
        return elapsed_ns >= self._slow_ns

    def slot(self, template: str | None, method: str, status: Status) -> int:
        """Return the slot that requests of this kind are counted in."""
        is_known = method in _METHODS
        code = str(falcon.http_status_to_code(status))
        name = series_name(method if is_known else "other", route_of(template), code)
        at = self._node.series.slot(name)
        # What a client chooses freely must not be remembered.
        if is_known:
            self._slots[template, method, status] = at
        return at

    def note_slow(
        self,
        command: str,
        target: str,
        status: int,
        request_id: str,
        elapsed_ns: int,
        trace: Trace | None,
    ) -> None:
        """Put a slow request into the slow log, and into the node's log unless that floods it.

        Args:
            command: Method and route, or the name of a command.
            target: The path with its query as it was sent.
        """
        duration_us = elapsed_ns // 1000
        self._node.slow_log.add(
            SlowEntry(time.time_ns() // _NS_PER_MS, duration_us, command, target, request_id)
        )
        now_ns = _now_ns()
        if now_ns < self._next_slow_line_ns:
            self._unsaid += 1
            return
        self._next_slow_line_ns = now_ns + _SLOW_LINES_NS
        unsaid, self._unsaid = self._unsaid, 0
        logger.warning(
            "%s took %.1f ms", command, duration_us / 1000,
            extra={
                "action": "slow_request",
                "duration_us": duration_us,
                "status": status,
                "request_id": request_id,
                "unsaid": unsaid,
                **(trace.fields() if trace is not None else {}),
            },
        )  # fmt: skip


def _trace_of(req: Request) -> Trace | None:
    return trace_of(req.raw_headers.get(TRACEPARENT))


def series_name(method: str, route: str, code: str) -> Name:
    """Return the name under which requests of this kind are counted."""
    return (REQUESTS, method, route, code)


def route_of(template: str | None) -> str:
    """Return a route's template as clients know it, `/kv/get/{key}`; `none` where there is none."""
    return "none" if template is None else _CONVERTER.sub("}", template)
