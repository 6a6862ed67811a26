"""Instructions of an HTTP worker a request, counted by callgrind: the same whatever else runs.

Run as `valgrind … python -m tests.instructions.count CONFIG`, beside a node with that
configuration. The application runs in this process, on connections without a socket. A write's
outcome is told at once: what the log's owner does is not counted. Each form of request is called
by `sys.call_tracing`, a function that nothing else calls, and callgrind counts inside it alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64encode
from typing import Any, cast

import lmdb
import uvloop

from synap.commands.strings import SetResult
from synap.config.loading import load_config
from synap.http.api.app import create_app
from synap.http.server.connection import Connection
from synap.http.server.lifespan import Lifespan
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from synap.ipc.messages import Answer, Decoder, Request, encode

# Requests of a form that are counted, after some that it is learnt by.
COUNTED = 50
LEARNT = 25
PASSWORD = "correct horse"
# What callgrind can map beside itself.
_MAP_BYTES = 1 << 28
_DEADLINE_SECONDS = 60
_VALUE = "v" * 64
BASIC = b64encode(f"root:{PASSWORD}".encode()).decode()
_SET = f'{{"key":"key:1","value":"{_VALUE}"}}'
_NAMED = '{"command":"kv.%s","request_id":"1f0a","payload":{"key":"key:1"%s}}'


class Form:
    """One form of request.

    Attributes:
        name: Its own.
        plain: The form that it is held against.
        most: What it may cost, as a multiple of that.
    """

    def __init__(
        self,
        name: str,
        plain: str,
        line: str,
        headers: str = "",
        body: str | None = None,
        most: float = 1.25,
    ) -> None:
        self.name = name
        self.plain = plain
        self.most = most
        self._line = line
        self._headers = headers
        self._body = body

    def request(self, number: int) -> bytes:
        """Return the request; `%d` in its headers stands for `number`."""
        headers = self._headers.replace("%d", str(100_000 + number))
        body = self._body
        if body is not None:
            headers += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head = f"{self._line} HTTP/1.1\r\nHost: 127.0.0.1:15500\r\n{headers}\r\n"
        return (head + (body or "")).encode()


def _get(name: str, headers: str = "", path: str = "/kv/get/key:1", most: float = 1.25) -> Form:
    return Form(name, "get", f"GET {path}", headers, most=most)


def _set(name: str, headers: str = "", body: str = _SET, line: str = "POST /kv/set") -> Form:
    return Form(name, "set", line, headers, body)


_TRACE = "traceparent: 00-4bf92f3577b34da6a3ce929d0e%d-00f067aa0ba902b7-01\r\n"
_BASIC_LINE = f"Authorization: Basic {BASIC}\r\n"
_PROXIED = (
    "X-Forwarded-For: 203.0.113.%d\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: kv.example\r\n"
    "X-Forwarded-Port: 443\r\nX-Real-IP: 203.0.113.%d\r\n"
)
FORMS = (
    _get("get"),
    _get("get, trace", _TRACE),
    _get("get, five proxy headers", _PROXIED),
    _get("get, HAProxy", "X-Forwarded-For: 203.0.113.7\r\nX-Unique-ID: 7F000001:%d\r\n"),
    _get("get, request id", "X-Request-Id: client-%d\r\n"),
    _get("get, position reached", "X-Synap-Min-Position: 0-00000000\r\n"),
    _get("get, same version", "If-None-Match: *\r\n"),
    _get("get, raw", path="/raw/key:1"),
    Form("mget of 3", "get", "POST /kv/mget", body='{"keys":["key:1","key:2","key:1"]}'),
    Form("SDK get", "get", "POST /api/v1/command", body=_NAMED % ("get", "")),
    _set("set"),
    _set("set, trace", _TRACE),
    _set("SDK set", body=_NAMED % ("set", f',"value":"{_VALUE}"'), line="POST /api/v1/command"),
    _set("put raw", body=_VALUE, line="PUT /raw/key:1"),
    Form("delete", "set", "DELETE /kv/del/key:none"),
    _set("incr", body='{"key":"counter"}', line="POST /kv/incr"),
)
WITH_CREDENTIALS = (
    _get("get, Basic", _BASIC_LINE),
    _get("get, Basic, trace", _BASIC_LINE + _TRACE),
    _set("set, Basic", _BASIC_LINE),
)


class _Transport:
    """Takes what a connection writes."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: 0


class _Owner(_Transport):
    """Stands for the connection to the log's owner; keeps what it is asked for."""

    def take(self) -> bytes:
        """Return the answers to what came since the last call; empty where nothing did."""
        requests = Decoder(Request).feed(self.written) if self.written else []
        self.written = b""
        return encode([_answer(each) for each in requests]) if requests else b""


def _answer(request: Request) -> Answer:
    name = type(request.command).__name__
    return Answer(request.id, request.id, SetResult(True, request.id) if name == "Set" else 1)


class _Counted:
    """The application on one connection, a request at a time."""

    def __init__(self, app: Any, server: HttpServer) -> None:
        self._client = app.fast_path._api._client
        self._owner = _Owner()
        self._client._transport = self._owner
        self._transport = _Transport()
        self._connection = Connection(server)
        self._connection.connection_made(cast(asyncio.Transport, self._transport))
        self._loop = asyncio.get_running_loop()

    async def learn(self, form: Form) -> None:
        """Send some; the first one with a password takes a while, checked in a thread."""
        for number in range(LEARNT):
            self._transport.written = b""
            self._loop.call_soon(self._send, form.request(number), _plainly)
            async with asyncio.timeout(_DEADLINE_SECONDS):
                while not self._transport.written:
                    await asyncio.sleep(0.002)
            assert self._transport.written.startswith((b"HTTP/1.1 2", b"HTTP/1.1 304")), form.name

    async def count(self, form: Form) -> None:
        requests = [form.request(LEARNT + number) for number in range(COUNTED)]
        failed: list[str] = []

        def run() -> None:
            for each in requests:
                self._transport.written = b""
                self._send(each, sys.call_tracing)
                if not self._transport.written:
                    failed.append(form.name)

        self._loop.call_soon(run)
        await asyncio.sleep(0.002)
        assert not failed, f"not answered at once: {failed[0]}"

    def _send(self, request: bytes, call: Any) -> None:
        call(self._connection.data_received, (request,))
        if self._client._unsent:
            call(self._client._flush, ())
        answers = self._owner.take()
        if answers:
            call(self._client.data_received, (answers,))


def _plainly(function: Any, args: tuple[Any, ...]) -> None:
    function(*args)


def _open_smaller() -> None:
    opened = lmdb.open

    def open_small(*args: Any, **more: Any) -> Any:
        return opened(*args, **more | {"map_size": _MAP_BYTES})

    lmdb.open = open_small  # type: ignore[assignment]


async def main(settings: dict[str, str], forms: tuple[Form, ...]) -> None:
    """Count each form, with a dump of callgrind's after it."""
    app = create_app(load_config(None, settings, environ={}))
    lifespan = Lifespan(app, is_required=True)
    await lifespan.startup()
    server = HttpServer(app, HttpLimits())
    await asyncio.sleep(0.1)
    counted = _Counted(app, server)
    for form in forms:
        await counted.learn(form)
        await counted.count(form)
        # Callgrind dumps what it counted where this is called.
        sys.setswitchinterval(sys.getswitchinterval())
    await lifespan.shutdown()


if __name__ == "__main__":
    _open_smaller()
    settings = json.loads(sys.argv[1])
    has_auth = "auth.enabled" in settings
    uvloop.run(main(settings, WITH_CREDENTIALS if has_auth else FORMS))
