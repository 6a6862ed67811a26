"""The table from errors to answers, and the form of the answers."""

import asyncio
import json
import logging
from typing import Any

import falcon
import falcon.testing
import pytest

from synap import errors, request_errors
from synap.config.keys import Config
from synap.errors import SynapError
from synap.http.api.errors import STATUS, body_of, install, status_of
from synap.http.api.request import App, Request
from synap.http.api.routing import RawPathRouter
from synap.http.server.exchange import ClientDisconnected
from synap.service.local_node import LocalNode


class Raising:
    """A resource that fails as it is told."""

    def __init__(self) -> None:
        self.error: Exception = SynapError("nothing told")

    async def on_get(self, req: Request, resp: falcon.asgi.Response) -> None:
        resp.set_header("X-Synap-Offset", "7")
        raise self.error


@pytest.fixture
def raising() -> Raising:
    return Raising()


@pytest.fixture
def client(raising: Raising) -> falcon.testing.TestClient:
    app = App(request_type=Request, router=RawPathRouter())
    node = LocalNode(Config())
    install(app, node, ["/health", "/kv/get/{key}"])
    app.add_route("/fail", raising)
    return falcon.testing.TestClient(app)


def test_client_that_is_gone_is_no_failure(
    client: falcon.testing.TestClient, raising: Raising, caplog: pytest.LogCaptureFixture
) -> None:
    raising.error = ClientDisconnected("the request's body was cut off")
    with pytest.raises(ClientDisconnected):
        client.simulate_get("/fail")
    assert not caplog.records


def _bare(kind: type[SynapError]) -> SynapError:
    error = kind.__new__(kind)
    SynapError.__init__(error)
    return error


@pytest.mark.parametrize("kind", list(SynapError.kinds()))
def test_status_of_every_error_has_an_entry_in_the_table(kind: type[SynapError]) -> None:
    status = status_of(_bare(kind))
    assert status in STATUS.values()
    assert status >= 400


@pytest.mark.parametrize(
    ("kind", "status", "reason", "retryable"),
    [
        (request_errors.InvalidRequest, 400, "invalid_request", False),
        (request_errors.FieldInvalid, 422, "invalid_field", False),
        (request_errors.InvalidValue, 400, "invalid_value", False),
        (request_errors.KeyInvalid, 400, "key_invalid", False),
        (request_errors.KeyNotFound, 404, "key_not_found", False),
        (request_errors.KeyExists, 400, "key_exists", False),
        (request_errors.ValueTooLarge, 413, "value_too_large", False),
        (errors.WriterUnavailable, 503, "writer_unavailable", True),
        (errors.OutcomeUnknown, 503, "outcome_unknown", False),
        (errors.DiskFull, 507, "disk_full", True),
        (errors.MemoryLimit, 507, "memory_limit", True),
        (errors.NotCaughtUp, 503, "not_caught_up", True),
        (errors.Syncing, 503, "syncing", True),
        (errors.Starting, 503, "starting", True),
    ],
)
def test_error_of_a_call_is_answered_in_the_contracts_form(
    client: falcon.testing.TestClient,
    raising: Raising,
    kind: type[SynapError],
    status: int,
    reason: str,
    retryable: bool,
) -> None:
    raising.error = kind("what happened")
    answer = client.simulate_get("/fail")
    assert answer.status_code == status
    assert answer.json == {
        "error": "what happened",
        "code": status,
        "reason": reason,
        "retryable": retryable,
    }


def test_error_after_headers_were_set_keeps_them(
    client: falcon.testing.TestClient, raising: Raising
) -> None:
    raising.error = request_errors.KeyNotFound()
    assert client.simulate_get("/fail").headers["x-synap-offset"] == "7"


def test_unexpected_error_is_logged_and_tells_the_client_nothing(
    client: falcon.testing.TestClient, raising: Raising, caplog: pytest.LogCaptureFixture
) -> None:
    raising.error = ZeroDivisionError("a secret detail")
    with caplog.at_level(logging.ERROR, "synap.http.api.errors"):
        answer = client.simulate_get("/fail")
    assert (answer.status_code, answer.json["reason"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (falcon.HTTPContentTooLarge(), 413, "payload_too_large"),
        (falcon.HTTPUnsupportedMediaType(), 415, "unsupported_media_type"),
        (falcon.HTTPInvalidHeader("it is odd", "X-Odd"), 400, "invalid_request"),
        (falcon.HTTPGone(), 410, "http_error"),
    ],
)
def test_falcons_own_error_is_answered_in_the_contracts_form(
    client: falcon.testing.TestClient,
    raising: Raising,
    error: falcon.HTTPError,
    status: int,
    reason: str,
) -> None:
    raising.error = error
    answer = client.simulate_get("/fail")
    assert answer.status_code == status
    assert (answer.json["code"], answer.json["reason"]) == (status, reason)
    assert answer.json["error"]


def test_unknown_path_is_404_that_names_it(client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/nowhere")
    assert answer.status_code == 404
    assert answer.json["reason"] == "not_found"
    assert "/nowhere" in answer.json["error"]


@pytest.mark.parametrize("method", ["POST", "DELETE", "TRACE", "PROPFIND", "BREW"])
def test_method_that_the_path_does_not_know_is_405_with_allow(
    client: falcon.testing.TestClient, method: str
) -> None:
    events: list[dict[str, Any]] = asyncio.run(_ask(client.app, method))
    assert events[0]["status"] == 405
    assert dict(events[0]["headers"])[b"allow"] == b"GET, HEAD, OPTIONS"
    assert json.loads(events[1]["body"])["reason"] == "method_not_allowed"


def test_body_of_an_error_takes_more_members() -> None:
    assert json.loads(body_of("m", 421, "r", False, master="http://a:1"))["master"] == "http://a:1"


async def _ask(app: Any, method: str) -> list[dict[str, Any]]:
    # The testing client refuses methods that it has not heard of, which is what this is about.
    events: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        events.append(event)

    scope = falcon.testing.create_scope("/fail") | {"method": method}
    await app(scope, receive, send)
    return events
