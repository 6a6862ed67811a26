"""The shorter way through Falcon against Falcon's own: the same answers, the same calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import falcon
import falcon.asgi
import falcon.testing
import pytest

from synap.http.api.falcon_app import FalconApp
from synap.http.api.request import Request

Response = falcon.asgi.Response


class Stream:
    """Two parts; notes that it was closed."""

    def __init__(self, api: list[str]) -> None:
        self._api = api

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def close(self) -> None:
        self._api.append("stream closed")


class Everything:
    """A resource with one method of each kind of answer."""

    def __init__(self, api: list[str]) -> None:
        self._api = api

    async def on_get(self, req: Request, resp: Response, kind: str) -> None:
        self._api.append(f"get {kind} {req.params} {req.get_header('X-Twice')}")
        await getattr(self, kind)(resp)

    on_head = on_get

    async def on_post(self, req: Request, resp: Response, kind: str) -> None:
        resp.data = await req.stream.read() + (req.content_type or "").encode()

    async def data(self, resp: Response) -> None:
        resp.data = b"bytes"
        resp.set_header("X-One", "1")

    async def text(self, resp: Response) -> None:
        resp.text = "täxt"
        resp.status = falcon.HTTP_201

    async def media(self, resp: Response) -> None:
        resp.media = {"a": 1}

    async def nothing(self, resp: Response) -> None:
        resp.status = 200

    async def no_content(self, resp: Response) -> None:
        resp.status = 204

    async def not_modified(self, resp: Response) -> None:
        resp.status, resp.data = 304, b"dropped"
        resp.set_header("ETag", '"1"')

    async def stream(self, resp: Response) -> None:
        resp.stream = Stream(self._api)

    async def sized_stream(self, resp: Response) -> None:
        resp.set_stream(Stream(self._api), 6)  # type: ignore[arg-type]

    async def refused(self, resp: Response) -> None:
        resp.set_header("X-One", "1")
        raise falcon.HTTPConflict(title="no", headers={"X-Two": "2"})

    async def failed(self, resp: Response) -> None:
        raise LookupError("handled")

    async def no_media(self, resp: Response) -> None:
        resp.content_type = "application/nope"
        resp.media = {"a": 1}


class Noting:
    """Middleware that notes its calls, and breaks off or fails where it is told."""

    def __init__(self, api: list[str]) -> None:
        self._api = api

    async def process_request(self, req: Request, resp: Response) -> None:
        self._api.append("request")
        if req.get_header("X-Complete"):
            resp.complete, resp.data = True, b"early"
        if req.get_header("X-Refuse"):
            raise falcon.HTTPForbidden

    async def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, Any]
    ) -> None:
        self._api.append(f"resource {req.uri_template} {params}")

    async def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        self._api.append(f"response {type(resource).__name__} {req_succeeded} {resp.status}")
        if req.get_header("X-Late"):
            raise falcon.HTTPBadRequest


async def on_lookup_error(
    req: Request, resp: Response, error: LookupError, params: dict[str, Any]
) -> None:
    resp.status, resp.text = 410, f"{error.args[0]} {params}"


def outcome(kind: type[Any], method: str, path: str, headers: list[tuple[str, str]]) -> Any:
    """Return the answer of an application of this class, and who was called."""
    api: list[str] = []
    app = kind(request_type=Request, middleware=[Noting(api), Noting(api)])
    app.add_route("/{kind}", Everything(api))
    app.add_error_handler(LookupError, on_lookup_error)
    body = "{}" if method == "POST" else None
    result = falcon.testing.simulate_request(app, method, path, headers=headers, body=body)
    return result.status, dict(result.headers), result.content, api


KINDS = [
    name for name in vars(Everything) if not name.startswith(("_", "on_")) and name != "no_media"
]
HEADERS: list[list[tuple[str, str]]] = [
    [],
    [("X-Complete", "1")],
    [("X-Refuse", "1")],
    [("X-Late", "1")],
    [("X-Twice", "a"), ("X-Twice", "b"), ("Content-Type", "text/plain")],
]


@pytest.mark.parametrize("path", [*(f"/{kind}" for kind in KINDS), "/data?a=1&b=%C3%A4", "/a/b"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_answer_and_calls_are_those_of_falcon(method: str, path: str) -> None:
    for headers in HEADERS if method == "GET" else HEADERS[:1]:
        expected = outcome(falcon.asgi.App, method, path, headers)
        assert outcome(FalconApp, method, path, headers) == expected, headers


def test_media_that_can_not_be_rendered_is_an_error_with_its_body() -> None:
    """Falcon sends the error's head with an empty body."""
    status, fields, content, _ = outcome(FalconApp, "GET", "/no_media", [])
    assert status.startswith("415")
    assert int(fields["content-length"]) == len(content) > 0


def test_error_that_no_handler_knows_is_raised() -> None:
    class Broken:
        async def on_get(self, req: Request, resp: Response) -> None:
            raise KeyError("unknown")

    async def pass_on(req: Request, resp: Response, error: Exception, params: object) -> None:
        raise error

    app = FalconApp[Request, Response](request_type=Request)
    app.add_error_handler(KeyError, pass_on)
    app.add_route("/", Broken())
    with pytest.raises(KeyError, match="unknown"):
        falcon.testing.simulate_get(app, "/")
