"""Errors as a client sees them: one table, one JSON form, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import falcon
import msgspec
import orjson
from falcon.asgi import Response

from synap import errors, request_errors
from synap.errors import (
    FeedReset,
    ReadOnlyReplica,
    ReignEnded,
    SlotElsewhere,
    SlotMoving,
    StoreDamaged,
    SynapError,
    WatchersFull,
)
from synap.http.api.headers import TRACEPARENT
from synap.http.api.operations.table import KV_WORDS
from synap.http.api.request import App, Request
from synap.http.api.traces import Trace, trace_of
from synap.http.server.exchange import ClientDisconnected
from synap.http.server.framing import is_header_value
from synap.nearest import nearest_name
from synap.request_errors import NotAuthenticated
from synap.service.local_node import LocalNode

logger = logging.getLogger(__name__)

CLUSTER_URL = "X-Synap-Cluster-Url"

# Status by class; the nearest class up the tree that stands here counts. `reason` and `retryable`
# are the class's own.
STATUS: dict[type[SynapError], int] = {
    SynapError: 500,
    request_errors.CommandError: 400,
    request_errors.FieldInvalid: 422,
    request_errors.KeyNotFound: 404,
    request_errors.ValueTooLarge: 413,
    request_errors.AnswerTooLarge: 413,
    request_errors.TransactionLost: 409,
    request_errors.ShareTaken: 429,
    request_errors.IdempotencyKeyReused: 422,
    request_errors.IdempotencyFull: 507,
    request_errors.RequestUnknown: 404,
    request_errors.PreconditionFailed: 412,
    request_errors.RecordCorrupt: 500,
    request_errors.CommandDisabled: 403,
    request_errors.AccessRefused: 403,
    request_errors.NotAuthenticated: 401,
    request_errors.HostNotAllowed: 421,
    request_errors.TooManyLogins: 429,
    request_errors.RateLimited: 429,
    request_errors.AccountNotFound: 404,
    request_errors.AccountConflict: 409,
    errors.SlotElsewhere: 421,
    errors.WriteRefused: 503,
    errors.ReadOnlyReplica: 421,
    errors.DiskFull: 507,
    errors.MemoryLimit: 507,
    errors.ReadRefused: 503,
    errors.PositionLost: 412,
    errors.FeedReset: 410,
    errors.RoleError: 409,
    errors.NothingToAccept: 409,
    errors.ReplicaUnknown: 404,
    errors.ReplicaHeard: 409,
}

# Reasons of what HTTP itself refuses, before there is a command.
HTTP_REASONS = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


def status_of(error: SynapError) -> int:
    """Return the HTTP status of an error's class."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def body_of(message: str, status: int, reason: str, retryable: bool, **more: Any) -> bytes:
    """Return the JSON form of an error."""
    return orjson.dumps(
        {"error": message, "code": status, "reason": reason, "retryable": retryable, **more}
    )


class ErrorAnswer(msgspec.Struct, frozen=True, gc=False):
    """What a client gets for an error.

    Attributes:
        status: HTTP status.
        body: JSON.
        headers: Those that say more than every answer's.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def error_answer(error: SynapError, node: LocalNode | None = None) -> ErrorAnswer:
    """Return what a client gets for `error`.

    Args:
        node: Knows where writes go instead, for the refusal at a replica, and who mends a record.
    """
    status = status_of(error)
    if node is not None and isinstance(error, request_errors.RecordCorrupt | StoreDamaged):
        node.report_damage(error)
    if isinstance(error, ReadOnlyReplica):
        master = None if node is None else node.master_url
        # A peer said it: what can't be told in a header is told in the body alone.
        is_told = master is not None and is_header_value(master)
        headers = (("X-Synap-Master", str(master)),) if is_told else ()
        body = body_of(error.message, status, error.reason, error.retryable, master=master)
        return ErrorAnswer(status, body, headers)
    if node is not None and isinstance(error, ReignEnded) and (heir := node.heir_url):
        headers = (("X-Synap-Master", heir),) if is_header_value(heir) else ()
        body = body_of(error.message, status, error.reason, error.retryable, master=heir)
        return ErrorAnswer(status, body, headers)
    more: dict[str, Any] = {}
    if isinstance(error, FeedReset):
        more = {"oldest": error.oldest, "common": error.common}
    body = body_of(error.message, status, error.reason, error.retryable, **more)
    if isinstance(error, SlotElsewhere):
        more = {"slot": error.slot, "cluster": error.cluster, "url": error.url}
        body = body_of(error.message, status, error.reason, error.retryable, **more)
        return ErrorAnswer(status, body, ((CLUSTER_URL, error.url),))
    if status == 429 or isinstance(error, WatchersFull | SlotMoving):
        return ErrorAnswer(
            status, body, (("Retry-After", str(getattr(error, "retry_seconds", 1))),)
        )
    return ErrorAnswer(status, body)


def answer_error(resp: Response, error: SynapError, node: LocalNode | None = None) -> None:
    """Answer with `error`; headers that were set before stay. See `error_answer`."""
    answer = error_answer(error, node)
    resp.status = answer.status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = answer.body
    resp.set_headers(answer.headers)


def install(app: App, node: LocalNode, paths: Collection[str]) -> None:
    """Make `app` answer every error in the form of the contract.

    Args:
        app: Falcon's application.
        node: Knows where writes go instead, for the refusal at a replica.
        paths: Those that there are, with their fields in braces.
    """

    async def on_http_error(
        req: Request, resp: Response, error: falcon.HTTPError, params: dict[str, Any]
    ) -> None:
        _answer_http_error(req, resp, error, paths)

    async def on_read_only(
        req: Request, resp: Response, error: ReadOnlyReplica, params: dict[str, Any]
    ) -> None:
        answer_error(resp, error, node)

    async def on_record_corrupt(
        req: Request, resp: Response, error: request_errors.RecordCorrupt, params: dict[str, Any]
    ) -> None:
        # No traceback: the owner of the log tells of it, once.
        answer_error(resp, error, node)

    async def on_reign_ended(
        req: Request, resp: Response, error: ReignEnded, params: dict[str, Any]
    ) -> None:
        answer_error(resp, error, node)

    async def on_store_damaged(
        req: Request, resp: Response, error: StoreDamaged, params: dict[str, Any]
    ) -> None:
        answer_error(resp, error, node)
        _log_unexpected(req, error)

    async def on_not_authenticated(
        req: Request, resp: Response, error: NotAuthenticated, params: dict[str, Any]
    ) -> None:
        # One text for all reasons: nothing tells one from another.
        answer_error(resp, NotAuthenticated())
        resp.set_header("WWW-Authenticate", 'Basic realm="synap", charset="UTF-8"')

    app.add_error_handler(Exception, _on_unexpected)
    app.add_error_handler(ClientDisconnected, _on_disconnect)
    app.add_error_handler(falcon.HTTPError, on_http_error)
    app.add_error_handler(SynapError, _on_synap_error)
    app.add_error_handler(ReadOnlyReplica, on_read_only)
    app.add_error_handler(request_errors.RecordCorrupt, on_record_corrupt)
    app.add_error_handler(ReignEnded, on_reign_ended)
    app.add_error_handler(StoreDamaged, on_store_damaged)
    app.add_error_handler(NotAuthenticated, on_not_authenticated)


async def _on_synap_error(
    req: Request, resp: Response, error: SynapError, params: dict[str, Any]
) -> None:
    answer_error(resp, error)
    if resp.status == 500:
        _log_unexpected(req, error)


def _answer_http_error(
    req: Request, resp: Response, error: falcon.HTTPError, paths: Collection[str]
) -> None:
    status = error.status_code
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    headers = dict(error.headers or {})
    resp.set_headers(headers)
    message = error.description or error.title or f"HTTP {status}"
    if status == 404:
        message = f"there is no {req.path}{_meant(req.path, paths)}"
    elif status == 405:
        known = headers.get("Allow", "others")
        message = f"{req.path} does not know the method {req.method}; it knows {known}"
    resp.data = body_of(message, status, HTTP_REASONS.get(status, "http_error"), False)


async def _on_disconnect(
    req: Request, resp: Response, error: ClientDisconnected, params: dict[str, Any]
) -> None:
    """Let it pass: nobody is there to answer, and the worker knows."""
    raise error


async def _on_unexpected(
    req: Request, resp: Response, error: Exception, params: dict[str, Any]
) -> None:
    _log_unexpected(req, error)
    answer_error(resp, SynapError("the request failed inside the node; its log says why"))


def _meant(path: str, paths: Collection[str]) -> str:
    """Return what to say after the name of a path that there is not."""
    first, _, rest = path[1:].partition("/")
    if first == "kv" and rest and "/" not in rest:
        word = nearest_name(rest, KV_WORDS)
        likely = f"; did you mean /kv/{word}?" if word is not None else ""
        return f"{likely}; a key is read at /kv/get/{quote(rest)}"
    nearest = nearest_name(path, [each for each in paths if "{" not in each])
    return f"; did you mean {nearest}?" if nearest is not None else "; /openapi.json has all paths"


def _log_unexpected(req: Request, error: Exception) -> None:
    trace = trace_of(req.raw_headers.get(TRACEPARENT))
    log_failure(req.uri_template or "no route", req.method, req.request_id, error, trace)


def log_failure(
    route: str, method: str, request_id: str, error: Exception, trace: Trace | None
) -> None:
    """Log an error that is the node's own fault, with its traceback."""
    logger.error(
        "a request to %s failed", route, exc_info=error,
        extra={
            "action": "http_request",
            "route": route,
            "method": method,
            "request_id": request_id,
            **(trace.fields() if trace is not None else {}),
        },
    )  # fmt: skip
