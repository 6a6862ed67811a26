"""What is noted of each request: counts and durations, its id, the slow log, the access log.

One step behind every responder, for all of it, so that a request pays for one. It runs when the
answer is made and before it is sent: the time of a streamed answer ends where its stream begins.
What the server refuses before there is a request (a malformed head, say) does not come by here.
"""

from __future__ import annotations

import logging
import re
import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from falcon.asgi import Response

from synap.http.access_log import AccessLog
from synap.http.local import LocalNode
from synap.http.request import Request
from synap.series import DURATION_BOUNDS_NS, Name
from synap.slowlog import SlowEntry

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"
# First word of the names of these series; method, route and status code follow.
REQUESTS = "http_request"

_NS_PER_MS = 1_000_000
# A node on which everything is slow must not make itself slower by saying so.
_SLOW_LINES_NS = 100 * _NS_PER_MS
_FIRST_NS = DURATION_BOUNDS_NS[0]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_CONVERTER = re.compile(r":[^}]*}")

_now_ns = time.perf_counter_ns


class Observer:
    """Falcon's middleware that notes every request."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node
        # Where nothing is slow, no request takes as long.
        self._slow_ns = node.config.logging.slow_ms * _NS_PER_MS or 1 << 63
        self._access_log = AccessLog() if node.config.logging.access else None
        self._slots: dict[tuple[str | None, str, object], int] = {}
        self._cells = memoryview(bytearray(8)).cast("Q")
        self._next_slow_line_ns = 0
        self._unsaid = 0

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Begin to count; the node's memory is there by now."""
        self._cells = self._node.series.cells

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Write the last lines."""
        if self._access_log is not None:
            self._access_log.flush()

    async def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        """Note a request whose answer is made. On the path of all of them."""
        elapsed_ns = _now_ns() - req.began_ns
        resp.set_header(REQUEST_ID, req.request_id)
        try:
            at = self._slots[req.uri_template, req.method, resp.status]
        except KeyError:
            at = self._slot(req, resp)
        cells = self._cells
        cells[at] += elapsed_ns
        if elapsed_ns <= _FIRST_NS:
            # Most are: neither the search for their bucket nor a look at the slow log is worth it.
            cells[at + 1] += 1
        else:
            cells[at + 1 + bisect_left(DURATION_BOUNDS_NS, elapsed_ns)] += 1
            if elapsed_ns >= self._slow_ns:
                self._note_slow(req, resp, elapsed_ns)
        if self._access_log is not None:
            self._access_log.note(req, resp, elapsed_ns)

    def _slot(self, req: Request, resp: Response) -> int:
        is_known = req.method in _METHODS
        name = series_name(
            req.method if is_known else "other", route_of(req), str(resp.status_code)
        )
        at = self._node.series.slot(name)
        # What a client chooses freely must not be remembered.
        if is_known:
            self._slots[req.uri_template, req.method, resp.status] = at
        return at

    def _note_slow(self, req: Request, resp: Response, elapsed_ns: int) -> None:
        duration_us = elapsed_ns // 1000
        command = req.command or f"{req.method} {route_of(req)}"
        entry = SlowEntry(
            time.time_ns() // _NS_PER_MS, duration_us, command, req.target, req.request_id
        )
        self._node.slow_log.add(entry)
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
                "status": resp.status_code,
                "request_id": req.request_id,
                "unsaid": unsaid,
            },
        )  # fmt: skip


def series_name(method: str, route: str, code: str) -> Name:
    """Return the name under which requests of this kind are counted."""
    return (REQUESTS, method, route, code)


def route_of(req: Request) -> str:
    """Return the template of the request's path, `/kv/get/{key}`; `none` where there is none."""
    template: str | None = req.uri_template
    return "none" if template is None else _CONVERTER.sub("}", template)
