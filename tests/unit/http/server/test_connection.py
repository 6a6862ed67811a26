"""The HTTP worker's connection: bytes in, bytes and states out, over a transport in memory."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synap.http.server import framing
from synap.http.server.connection_state import LINGERING
from synap.http.server.exchange import Exchange
from synap.http.server.flow_control import MAX_PIPELINED
from synap.http.server.framing import ErrorResponse
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from tests.unit.http.server.memory_transport import App, Client, answers, pass_seconds, run, settle

HOST = b"\r\nHost: h\r\n"
CLOSE = b"connection: close"


def refusal(expected: ErrorResponse) -> bytes:
    """Return what the wire shows for a refusal, without the date."""
    return expected.encode(b"date: x").replace(b"\r\ndate: x", b"")


def failed() -> bytes:
    """Return what the wire shows where the application failed."""
    body = framing.INTERNAL_ERROR.body()
    head = [b"HTTP/1.1 500 Internal Server Error", b"content-type: application/json"]
    return b"\r\n".join([*head, b"content-length: %d" % len(body), b"", body])


def exchange(reads: Sequence[bytes], *, eof: bool = False, **limits: Any) -> tuple[bytes, str, App]:
    """Return what the client got for its reads, the connection's state, and the application."""

    async def scenario() -> tuple[bytes, str, App]:
        app = App()
        server = HttpServer(app, HttpLimits(**limits))
        client = Client(server)
        await client.send(*reads, eof=eof)
        outcome = client.received, client.transport.state, app
        server.close()
        return outcome

    return run(scenario)


def in_loop(
    test: Callable[..., Any],
) -> Callable[[], None]:
    """Run an async test, given a client's maker, on a loop of its own."""

    def wrapped() -> None:
        run(test)

    wrapped.__name__ = test.__name__
    wrapped.__doc__ = test.__doc__
    return wrapped


# Bytes in, bytes out, state. Short, because each is cut into every two and three reads.
SERVED = {
    "get": (b"GET /a HTTP/1.1" + HOST + b"\r\n", answers(b"GET /a 0"), "open"),
    "query": (b"GET /a?b=c HTTP/1.1" + HOST + b"\r\n", answers(b"GET /a 0"), "open"),
    "encoded path": (b"GET /a%2Fb HTTP/1.1" + HOST + b"\r\n", answers(b"GET /a/b 0"), "open"),
    "absolute": (b"GET http://h/a?b HTTP/1.1" + HOST + b"\r\n", answers(b"GET /a 0"), "open"),
    "leading lines": (b"\r\n\r\nGET /a HTTP/1.1" + HOST + b"\r\n", answers(b"GET /a 0"), "open"),
    "close": (
        b"GET /a HTTP/1.1" + HOST + b"Connection: close\r\n\r\n",
        answers(b"GET /a 0", last=[CLOSE]),
        "ended",
    ),
    "http 1.0": (b"GET /a HTTP/1.0\r\n\r\n", answers(b"GET /a 0", last=[CLOSE]), "ended"),
    "http 1.0 keep-alive": (
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        answers(b"GET /a 0", last=[b"connection: keep-alive"]),
        "open",
    ),
    "http 1.0 kept by a proxy's header": (
        b"GET /a HTTP/1.0" + HOST + b"Proxy-Connection: keep-alive\r\n\r\n",
        answers(b"GET /a 0", last=[b"connection: keep-alive"]),
        "open",
    ),
    "stream to 1.0 kept by a proxy's header": (
        b"GET /stream HTTP/1.0" + HOST + b"Proxy-Connection: keep-alive\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonethree",
        "ended",
    ),
    "http 1.1 kept by a proxy's header": (
        b"GET /a HTTP/1.1" + HOST + b"Proxy-Connection: keep-alive\r\n\r\n",
        answers(b"GET /a 0"),
        "open",
    ),
    "body": (
        b"PUT /a HTTP/1.1" + HOST + b"Content-Length: 3\r\n\r\nabc",
        answers(b"PUT /a 3"),
        "open",
    ),
    "empty body": (
        b"PUT /a HTTP/1.1" + HOST + b"Content-Length: 0\r\n\r\n",
        answers(b"PUT /a 0"),
        "open",
    ),
    "chunked": (
        b"PUT /a HTTP/1.1" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n"
        b"0\r\nT: v\r\n\r\n",
        answers(b"PUT /a 3"),
        "open",
    ),
    "head": (
        b"HEAD /a HTTP/1.1" + HOST + b"\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        "open",
    ),
    "wait": (b"GET /wait HTTP/1.1" + HOST + b"\r\n", answers(b"GET /wait 0"), "open"),
    "stream": (
        b"GET /stream HTTP/1.1" + HOST + b"\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n",
        "open",
    ),
    "stream to 1.0": (
        b"GET /stream HTTP/1.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonethree",
        "ended",
    ),
    "stream to head": (
        b"HEAD /stream HTTP/1.1" + HOST + b"\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        "open",
    ),
    "sized stream": (b"GET /sized HTTP/1.1" + HOST + b"\r\n", answers(b"abcdef"), "open"),
    "no content": (
        b"GET /empty HTTP/1.1" + HOST + b"\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        "open",
    ),
    "upgrade not taken": (
        b"GET /a HTTP/1.1" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        b"GET /b HTTP/1.1" + HOST + b"\r\n",
        answers(b"GET /a 0", b"GET /b 0"),
        "open",
    ),
    "pipelined": (
        (b"GET /a HTTP/1.1" + HOST + b"\r\n") + (b"GET /wait HTTP/1.1" + HOST + b"\r\n") * 2,
        answers(b"GET /a 0", b"GET /wait 0", b"GET /wait 0"),
        "open",
    ),
    "nothing after close": (
        b"GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
        answers(b"GET /a 0", last=[CLOSE]),
        "ended",
    ),
}
FRAMED = b"PUT /a HTTP/1.1" + HOST
REFUSED = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01", framing.MALFORMED),
    "unknown method": (b"BREW /a HTTP/1.1" + HOST + b"\r\n", framing.MALFORMED),
    "connect": (b"CONNECT a:80 HTTP/1.1" + HOST + b"\r\n", framing.MALFORMED),
    "http 0.9": (b"GET /a\r\n", framing.MALFORMED),
    "http 2.0": (b"GET /a HTTP/2.0" + HOST + b"\r\n", framing.MALFORMED),
    "http 2.0 kept by a proxy's header": (
        b"GET /a HTTP/2.0" + HOST + b"Proxy-Connection: keep-alive\r\n\r\n",
        framing.MALFORMED,
    ),
    "http 2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", framing.MALFORMED),
    "fragment": (b"GET /a#b HTTP/1.1" + HOST + b"\r\n", framing.MALFORMED),
    "no slash": (b"GET a HTTP/1.1" + HOST + b"\r\n", framing.MALFORMED),
    "raw utf-8": (b"GET /\xc3\xa4 HTTP/1.1" + HOST + b"\r\n", framing.MALFORMED),
    "bare lf": (b"GET /a HTTP/1.1\nHost: h\n\n", framing.MALFORMED),
    "folded header": (b"GET /a HTTP/1.1" + HOST + b"A: b\r\n c\r\n\r\n", framing.MALFORMED),
    "nul in header": (b"GET /a HTTP/1.1" + HOST + b"A: \0\r\n\r\n", framing.MALFORMED),
    "blank before colon": (b"GET /a HTTP/1.1" + HOST + b"A : b\r\n\r\n", framing.MALFORMED),
    "no host": (b"GET /a HTTP/1.1\r\n\r\n", framing.HOST_MISSING),
    "two hosts": (b"GET /a HTTP/1.1" + HOST + b"Host: i\r\n\r\n", framing.FRAMING_CONFLICT),
    "two lengths": (
        FRAMED + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        framing.MALFORMED,
    ),
    "length list": (FRAMED + b"Content-Length: 1, 1\r\n\r\nx", framing.MALFORMED),
    "signed length": (FRAMED + b"Content-Length: +1\r\n\r\nx", framing.MALFORMED),
    "length overflow": (
        FRAMED + b"Content-Length: 99999999999999999999\r\n\r\n",
        framing.MALFORMED,
    ),
    "length and chunks": (
        FRAMED + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        framing.MALFORMED,
    ),
    "two codings": (
        FRAMED + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        framing.MALFORMED,
    ),
    "unknown coding": (
        FRAMED + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        framing.FRAMING_CONFLICT,
    ),
    "chunks in 1.0": (
        b"PUT /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        framing.FRAMING_CONFLICT,
    ),
    "bad chunk": (FRAMED + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", framing.MALFORMED),
    "too long a body": (FRAMED + b"Content-Length: 101\r\n\r\n", framing.BODY_TOO_LARGE),
    "unknown expectation": (FRAMED + b"Expect: tea\r\n\r\n", framing.EXPECTATION_UNKNOWN),
    "upgrade with body": (
        FRAMED + b"Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nx",
        framing.UPGRADE_WITH_BODY,
    ),
}
TABLE = SERVED | {
    name: (request, refusal(expected), "ended") for name, (request, expected) in REFUSED.items()
}


def cuts(request: bytes, count: int) -> list[list[bytes]]:
    """Return every way to cut a request into `count` reads."""
    places = itertools.combinations(range(1, len(request)), count - 1)
    return [
        [request[a:b] for a, b in itertools.pairwise((0, *places_of_one, len(request)))]
        for places_of_one in places
    ]


async def differing(request: bytes, ways: list[list[bytes]], expected: Any, app: App) -> list[Any]:
    """Return the ways to read a request whose outcome is not the expected one."""
    limits = HttpLimits(max_body_bytes=100, max_connections=10**6, max_connections_of_address=10**6)
    server = HttpServer(app, limits)
    wrong = []
    for batch in itertools.batched(ways, 256) if hasattr(itertools, "batched") else [ways]:
        clients = [(Client(server), reads) for reads in batch]
        loop = asyncio.get_running_loop()
        for client, reads in clients:
            for read in reads:
                loop.call_soon(client.transport.feed, read)
        await settle()
        wrong += [
            (reads, client.received, client.transport.state)
            for client, reads in clients
            if (client.received, client.transport.state) != expected
        ]
    server.close()
    await settle()
    return wrong


@pytest.mark.parametrize("name", TABLE)
def test_request_in_one_read_gets_its_answer(name: str) -> None:
    request, expected, state = TABLE[name]
    received, seen, _ = exchange([request], max_body_bytes=100)
    assert (received, seen) == (expected, state)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(("count", "is_guarded"), [(2, False), (3, False), (2, True)])
def test_request_in_several_reads_gets_the_same_answer(
    name: str, count: int, is_guarded: bool
) -> None:
    request, expected, state = TABLE[name]
    app = App()
    app.is_guarded = is_guarded
    ways = cuts(request, count)
    assert run(lambda: differing(request, ways, (expected, state), app)) == []


def sized_head(target_bytes: int = 2, headers: Sequence[tuple[str, int]] = ()) -> bytes:
    lines = "".join(f"{name}: {'v' * length}\r\n" for name, length in headers)
    return f"GET /{'t' * (target_bytes - 1)} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (sized_head(8170), None),
        (sized_head(8192), framing.TARGET_TOO_LONG),
        (sized_head(100_000), framing.TARGET_TOO_LONG),
        (sized_head(headers=[("a", 16_000)]), None),
        (sized_head(headers=[("a", 16_384)]), framing.HEADERS_TOO_LARGE),
        (sized_head(headers=[("a", 1_000_000)]), framing.HEADERS_TOO_LARGE),
        (sized_head(headers=[(f"a{n}", 200) for n in range(90)]), framing.HEADERS_TOO_LARGE),
        (sized_head(headers=[(f"a{n}", 1) for n in range(99)]), None),
        (sized_head(headers=[(f"a{n}", 1) for n in range(100)]), framing.HEADERS_TOO_LARGE),
        (sized_head(headers=[("x" * 50_000, 1)]), framing.HEADERS_TOO_LARGE),
        (sized_head()[:-2] + b"a:" + b" " * 100_000 + b"v\r\n\r\n", framing.HEADERS_TOO_LARGE),
    ],
)
@pytest.mark.parametrize("read_bytes", [1_000_000, 5000, 997])
def test_head_over_a_limit_is_refused_however_it_is_read(
    head: bytes, expected: ErrorResponse | None, read_bytes: int
) -> None:
    reads = [head[at : at + read_bytes] for at in range(0, len(head), read_bytes)]
    received, state, _ = exchange(reads)
    if expected is None:
        assert (received[:15], state) == (b"HTTP/1.1 200 OK", "open")
    else:
        assert (received, state) == (refusal(expected), "ended")


def test_chunked_body_over_the_limit_is_refused_when_it_shows() -> None:
    head = FRAMED + b"Transfer-Encoding: chunked\r\n\r\n"
    received, state, app = exchange([head, b"40\r\n" + b"x" * 64 + b"\r\n"], max_body_bytes=63)
    assert (received, state) == (refusal(framing.BODY_TOO_LARGE), "ended")
    assert app.requests == []


def test_refusal_waits_for_the_answers_before_it() -> None:
    received, state, _ = exchange([b"GET /wait HTTP/1.1" + HOST + b"\r\n" + b"\0\0\0"])
    assert (received, state) == (answers(b"GET /wait 0") + refusal(framing.MALFORMED), "ended")


def test_refusal_has_the_contracts_form() -> None:
    body = json.loads(framing.BODY_TIMEOUT.body())
    assert body == {
        "error": framing.BODY_TIMEOUT.message,
        "code": 408,
        "reason": "request_timeout",
        "retryable": True,
    }


# The application's failures


@pytest.mark.parametrize("path", [b"/raise", b"/late-raise", b"/silent", b"/inject"])
def test_application_that_fails_before_its_answer_gives_500(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    request = b"GET " + path + b" HTTP/1.1" + HOST + b"\r\n"
    received, state, _ = exchange([request, request])
    assert (received, state) == (failed() * 2, "open")
    assert b"secret" not in received
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_application_that_fails_inside_its_answer_cuts_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    received, state, _ = exchange([b"GET /short HTTP/1.1" + HOST + b"\r\n"])
    assert received.endswith(b"\r\n\r\nabc")
    assert state == "cut"
    assert len(caplog.records) == 1


# The scope


def test_scope_names_what_the_client_sent() -> None:
    _, _, app = exchange([b"GET /a%2Fb?q=1 HTTP/1.1\r\nHost: h\r\nX-Name: V\r\n\r\n"])
    scope = app.scopes[0]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a/b", b"/a%2Fb", b"q=1")
    assert scope["headers"] == [(b"host", b"h"), (b"x-name", b"V")]
    assert (scope["client"], scope["server"]) == (("192.0.2.1", 4711), ("192.0.2.2", 80))


def test_scopes_of_one_connection_share_no_state() -> None:
    request = b"GET /a HTTP/1.1" + HOST + b"\r\n"

    async def scenario() -> App:
        app = App()
        server = HttpServer(app, HttpLimits(), state={"store": 1})
        client = Client(server)
        await client.send(request)
        app.scopes[0]["state"]["mine"] = 2
        app.scopes[0]["headers"].clear()
        await client.send(request)
        server.close()
        return app

    scope = run(scenario).scopes[1]
    assert scope["state"] == {"store": 1}
    assert scope["headers"] == [(b"host", b"h")]


# Bodies and flow control


def test_long_body_comes_in_parts_to_an_application_that_reads() -> None:
    body = bytes(range(256)) * 1024
    head = FRAMED + b"Content-Length: %d\r\n\r\n" % len(body)
    received, _, app = exchange([head + body])
    assert received == answers(b"PUT /a 262144")
    assert len(app.parts) > 1
    assert b"".join(app.parts) == body


@in_loop
async def test_long_body_stops_the_reading_until_the_application_takes_it() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server)
    head = b"PUT /slow-reader HTTP/1.1" + HOST + b"Content-Length: 1000000\r\n\r\n"
    await client.send(head, *[b"x" * 50_000] * 20)
    assert client.transport.is_reading_paused
    assert client.connection.exchange is not None
    assert client.connection.exchange.buffered_bytes < 2 * 65_536 + 50_000
    app.release()
    for _ in range(20):
        await settle()
    assert client.received == answers(b"1000000")
    assert not client.transport.is_reading_paused
    server.close()


@in_loop
async def test_slow_reader_holds_a_streaming_application_back() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server, is_reading=False)
    await client.send(b"GET /flood HTTP/1.1" + HOST + b"\r\n")
    assert 0 < len(app.parts) < 10
    while client.connection.exchange is not None:
        client.transport.read(100_000)
        await settle()
    client.transport.read(10**7)
    assert len(client.transport.received) > 64 * 16384
    assert app.ends == ["returned"]
    server.close()


@in_loop
async def test_pipelined_requests_of_a_slow_reader_wait_unread() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server, is_reading=False)
    await client.send((b"GET /a HTTP/1.1" + HOST + b"\r\n") * 4000)
    assert len(app.requests) < 4000
    assert client.transport.is_reading_paused
    for _ in range(100):
        client.transport.read(100_000)
        await settle()
    assert client.received == answers(*[b"GET /a 0"] * 4000)
    server.close()


@in_loop
async def test_pipelined_requests_behind_one_that_waits_are_bounded() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server)
    request = b"GET /a HTTP/1.1" + HOST + b"\r\n"
    await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n", request * 10_000)
    assert client.transport.is_reading_paused
    assert len(client.connection._queue) < MAX_PIPELINED + 4096 // len(request) + 2
    app.release()
    for _ in range(1000):
        await settle()
    assert client.received == answers(b"GET /hold 0", *[b"GET /a 0"] * 10_000)
    server.close()


@in_loop
async def test_pipelined_requests_in_reads_of_their_own_are_bounded_too() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server)
    request = b"GET /a HTTP/1.1" + HOST + b"\r\n"
    await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n", *[request] * 200)
    assert client.transport.is_reading_paused
    assert len(client.connection._queue) == MAX_PIPELINED
    app.release()
    for _ in range(20):
        await settle()
    assert client.received == answers(b"GET /hold 0", *[b"GET /a 0"] * 200)
    assert not client.transport.is_reading_paused
    server.close()


def test_body_that_nobody_reads_closes_the_connection() -> None:
    head = b"PUT /unread HTTP/1.1" + HOST + b"Content-Length: 200000\r\n\r\n"
    received, state, _ = exchange([head + b"x" * 70_000])
    assert (received, state) == (answers(b"unread", last=[CLOSE]), "ended")


# An application that looks at the head first


def guarded() -> tuple[App, HttpServer]:
    app = App()
    app.is_guarded = True
    return app, HttpServer(app, HttpLimits())


@pytest.mark.parametrize("line", [b"", b"Expect: 100-continue\r\n"])
def test_guarded_application_refuses_by_the_head_alone(line: bytes) -> None:
    async def scenario() -> None:
        _, server = guarded()
        client = Client(server)
        await client.send(b"PUT /unread HTTP/1.1" + HOST + line + b"Content-Length: 100\r\n\r\n")
        assert client.received == answers(b"unread", last=[CLOSE])
        assert client.connection.state is LINGERING
        await client.send(b"x" * 100)
        assert (client.connection.held_bytes, client.transport.state) == (0, "ended")
        server.close()

    run(scenario)


BODY = b"x" * 20_000


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        (b"Content-Length: 20000", BODY),
        (b"Transfer-Encoding: chunked", b"4e20\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ],
)
def test_guarded_application_has_nothing_read_that_it_did_not_ask_for(
    line: bytes, sent: bytes
) -> None:
    async def scenario() -> None:
        app, server = guarded()
        client = Client(server)
        head = b"PUT /slow-reader HTTP/1.1" + HOST + line + b"\r\n\r\n"
        await client.send(head + sent[:10], sent[10:10_000], sent[10_000:])
        exchange = client.connection.exchange
        assert isinstance(exchange, Exchange)
        assert client.transport.is_reading_paused
        assert exchange.fed_bytes <= 10
        app.release()
        await settle()
        assert client.received == answers(b"20000")
        server.close()

    run(scenario)


@in_loop
async def test_guarded_request_that_came_in_one_read_keeps_its_connection_when_refused() -> None:
    _, server = guarded()
    client = Client(server)
    request = b"PUT /unread HTTP/1.1" + HOST + b"Content-Length: 20000\r\n\r\n" + b"x" * 20_000
    await client.send(request, request)
    assert client.received == answers(b"unread", b"unread")
    server.close()


@in_loop
async def test_guarded_request_behind_one_that_waits_is_not_read_on() -> None:
    app, server = guarded()
    client = Client(server)
    head = b"PUT /a HTTP/1.1" + HOST + b"Content-Length: 6\r\n\r\n"
    await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n", head + b"abc", b"def")
    assert client.transport.is_reading_paused
    app.release()
    await settle()
    assert client.received == answers(b"GET /hold 0", b"PUT /a 6")
    assert not client.transport.is_reading_paused
    server.close()


# Expect: 100-continue


def test_expectation_is_met_when_the_application_reads() -> None:
    head = FRAMED + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    received, _, _ = exchange([head, b"abc"])
    assert received == b"HTTP/1.1 100 Continue\r\n\r\n" + answers(b"PUT /a 3")


def test_expectation_is_not_met_where_the_body_is_here_already() -> None:
    head = FRAMED + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert exchange([head + b"abc"])[0] == answers(b"PUT /a 3")


def test_expectation_of_too_long_a_body_is_refused() -> None:
    head = FRAMED + b"Expect: 100-continue\r\nContent-Length: 101\r\n\r\n"
    assert exchange([head], max_body_bytes=100)[0] == refusal(framing.BODY_TOO_LARGE)


# The client's end


@pytest.mark.parametrize("request_", [b"GET", b"GET /a HTTP/1.1\r\nHo", FRAMED + b"A: b"])
def test_half_a_request_and_the_end_is_refused(request_: bytes) -> None:
    received, state, _ = exchange([request_], eof=True)
    assert (received, state) == (refusal(framing.INCOMPLETE), "ended")


def test_half_closed_client_gets_its_answers() -> None:
    request = b"GET /wait HTTP/1.1" + HOST + b"\r\n"
    received, state, _ = exchange([request * 2], eof=True)
    assert (received, state) == (answers(*[b"GET /wait 0"] * 2, last=[CLOSE]), "ended")


def test_client_that_ends_between_requests_is_closed() -> None:
    received, state, _ = exchange([b"GET /a HTTP/1.1" + HOST + b"\r\n"], eof=True)
    assert (received, state) == (answers(b"GET /a 0"), "ended")


@in_loop
async def test_lost_client_is_told_to_an_application_that_waits_for_it() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server)
    await client.send(b"GET /watch HTTP/1.1" + HOST + b"\r\n")
    client.transport.lose()
    await settle()
    assert app.ends == ["http.disconnect", "returned"]
    assert not server.connections
    server.close()


@in_loop
async def test_lost_client_is_no_whole_body_to_the_application() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server)
    head = FRAMED + b"Content-Length: 200000\r\n\r\n"
    await client.send(head + b"x" * 100_000)
    client.transport.lose()
    await settle()
    assert app.requests == []
    assert app.ends == ["ClientDisconnected"]
    server.close()


@in_loop
async def test_lost_client_ends_a_streaming_application() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    client = Client(server, is_reading=False)
    await client.send(b"GET /flood HTTP/1.1" + HOST + b"\r\n")
    client.transport.lose()
    await settle()
    assert app.ends == ["ClientDisconnected"]
    server.close()


# Time


@pytest.mark.parametrize(
    ("request_", "seconds", "expected"),
    [
        (b"", 1.0, b""),
        (b"GET /a HT", 1.0, refusal(framing.HEAD_TIMEOUT)),
        (FRAMED + b"Content-Length: 9\r\n\r\nabc", 2.0, refusal(framing.BODY_TIMEOUT)),
        (b"GET /a HTTP/1.1" + HOST + b"\r\n", 3.0, answers(b"GET /a 0")),
    ],
)
def test_client_that_falls_silent_is_closed_in_time(
    request_: bytes, seconds: float, expected: bytes
) -> None:
    async def scenario() -> None:
        limits = HttpLimits(head_seconds=1, body_seconds=2, idle_seconds=3)
        server = HttpServer(App(), limits)
        client = Client(server)
        await client.send(request_)
        await pass_seconds(server, seconds)
        assert client.transport.state == "open"
        await pass_seconds(server, 0.5)
        assert (client.received, client.transport.state) == (expected, "ended")
        server.close()

    run(scenario)


@in_loop
async def test_trickled_head_is_refused_from_its_first_byte_on() -> None:
    server = HttpServer(App(), HttpLimits(head_seconds=1))
    client = Client(server)
    for byte in b"GET /a HTTP":
        await client.send(bytes([byte]))
        await pass_seconds(server, 0.25)
    assert client.received == refusal(framing.HEAD_TIMEOUT)
    server.close()


@in_loop
async def test_body_lives_by_its_kibibytes_and_not_by_its_bytes() -> None:
    server = HttpServer(App(), HttpLimits(body_seconds=1))
    steady, trickling = Client(server), Client(server)
    head = FRAMED + b"Content-Length: 100000\r\n\r\n"
    await steady.send(head)
    await trickling.send(head)
    for _ in range(4):
        await steady.send(b"x" * 1024)
        await trickling.send(b"x")
        await pass_seconds(server, 0.75)
    assert (steady.received, steady.transport.state) == (b"", "open")
    assert trickling.received == refusal(framing.BODY_TIMEOUT)
    server.close()


@in_loop
async def test_body_that_never_ends_is_refused_however_steady() -> None:
    server = HttpServer(App(), HttpLimits(request_seconds=2))
    client = Client(server)
    await client.send(FRAMED + b"Content-Length: 100000\r\n\r\n")
    for _ in range(6):
        await client.send(b"x" * 1024)
        await pass_seconds(server, 0.5)
    assert client.received == refusal(framing.BODY_TIMEOUT)
    server.close()


@in_loop
async def test_bodies_one_after_the_other_have_a_time_each() -> None:
    server = HttpServer(App(), HttpLimits(request_seconds=2))
    client = Client(server)
    head = FRAMED + b"Content-Length: 2048\r\n\r\n"
    for _ in range(4):
        await client.send(head + b"x" * 1024)
        await pass_seconds(server, 1.5)
        await client.send(b"x" * 1024)
    assert client.received == answers(*[b"PUT /a 2048"] * 4)
    server.close()


@in_loop
async def test_client_that_reads_nothing_is_cut_and_one_that_reads_is_not() -> None:
    server = HttpServer(App(), HttpLimits(write_seconds=1))
    stalled, slow = Client(server, is_reading=False), Client(server, is_reading=False)
    for client in (stalled, slow):
        await client.send(b"GET /flood HTTP/1.1" + HOST + b"\r\n")
    for _ in range(4):
        await pass_seconds(server, 0.75)
        slow.transport.read(10_000)
        await settle()
    assert (stalled.transport.state, slow.transport.state) == ("cut", "open")
    server.close()


@in_loop
async def test_application_at_work_has_all_the_time_it_wants() -> None:
    app = App()
    server = HttpServer(app, HttpLimits(head_seconds=1, body_seconds=1, idle_seconds=1))
    client = Client(server)
    await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n")
    await pass_seconds(server, 60)
    app.release()
    await settle()
    assert (client.received, client.transport.state) == (answers(b"GET /hold 0"), "open")
    server.close()


@in_loop
async def test_refused_client_that_stays_is_cut_after_a_while() -> None:
    server = HttpServer(App(), HttpLimits(linger_seconds=1))
    client = Client(server)
    await client.send(b"\0")
    await client.send(b"x" * 100_000)
    assert client.transport.state == "ended"
    await pass_seconds(server, 2)
    assert client.transport.state == "cut"
    assert not server.connections
    server.close()


# Room


@in_loop
async def test_new_connection_takes_the_place_of_the_one_idle_longest() -> None:
    server = HttpServer(App(), HttpLimits(max_connections=3))
    clients = []
    for _ in range(3):
        clients.append(Client(server))
        await clients[-1].send(b"GET /a HTTP/1.1" + HOST + b"\r\n")
        await pass_seconds(server, 0.5)
    clients.append(Client(server))
    await settle()
    assert [client.transport.state for client in clients] == ["ended", "open", "open", "open"]
    server.close()


@in_loop
async def test_new_connection_is_refused_where_all_others_are_at_work() -> None:
    app = App()
    server = HttpServer(app, HttpLimits(max_connections=2))
    busy = [Client(server) for _ in range(2)]
    for client in busy:
        await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n")
    late = Client(server)
    await late.send(b"GET /a HTTP/1.1" + HOST + b"\r\n")
    assert late.received.startswith(b"HTTP/1.1 503 ")
    assert late.received.endswith(framing.OVERLOADED.body())
    assert late.transport.state == "ended"
    app.release()
    await settle()
    assert [client.received for client in busy] == [answers(b"GET /hold 0")] * 2
    server.close()


@in_loop
async def test_probe_is_answered_where_all_others_are_at_work() -> None:
    app = App()
    app.probe_paths = frozenset({"/probe"})
    server = HttpServer(app, HttpLimits(max_connections=2))
    busy = [Client(server) for _ in range(2)]
    for client in busy:
        await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n")
    silent = [Client(server) for _ in range(20)]
    probe = Client(server)
    await probe.send(b"GET /probe HTTP/1.1" + HOST + b"\r\n")
    assert probe.received == answers(b"GET /probe 0")
    assert [client.transport.state for client in busy] == ["open", "open"]
    assert sum(client.transport.state == "open" for client in silent) < 8
    server.close()


@in_loop
async def test_request_that_was_long_under_way_loses_its_place() -> None:
    server = HttpServer(App(), HttpLimits(max_connections=2))
    busy = [Client(server) for _ in range(2)]
    for client in busy:
        await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n")
        await pass_seconds(server, 1)
    late = Client(server)
    await late.send(b"GET /a HTTP/1.1" + HOST + b"\r\n")
    assert late.received == answers(b"GET /a 0")
    assert busy[0].received == refusal(framing.EVICTED)
    assert [client.transport.state for client in busy] == ["ended", "open"]
    server.close()


@in_loop
async def test_client_that_owes_a_body_loses_its_place_to_a_new_one() -> None:
    server = HttpServer(App(), HttpLimits(max_connections=2))
    waits, half = Client(server), Client(server)
    await waits.send(
        b"PUT /a HTTP/1.1" + HOST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    await pass_seconds(server, 0.5)
    await half.send(b"PUT /a HTTP/1.1" + HOST + b"Content-Length: 9\r\n\r\n12")
    for owing in (waits, half):
        Client(server)
        await settle()
        assert owing.transport.state != "open"
    server.close()


@in_loop
async def test_client_that_does_not_read_loses_its_place_to_a_new_one() -> None:
    server = HttpServer(App(), HttpLimits(max_connections=1))
    deaf = Client(server, is_reading=False)
    await deaf.send(b"GET /flood HTTP/1.1" + HOST + b"\r\n")
    late = Client(server)
    await late.send(b"GET /a HTTP/1.1" + HOST + b"\r\n")
    assert late.received == answers(b"GET /a 0")
    assert deaf.transport.state == "cut"
    server.close()


# Leaving
# Leaving


@in_loop
async def test_drain_answers_what_is_asked_and_closes() -> None:
    app = App()
    server = HttpServer(app, HttpLimits())
    waiting, pipelining, halfway, idle = [Client(server) for _ in range(4)]
    request = b"GET /a HTTP/1.1" + HOST + b"\r\n"
    await waiting.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n")
    await halfway.send(request[:10])
    drain = asyncio.create_task(server.drain(5.0))
    await asyncio.sleep(0)
    await pipelining.send(request * 3)
    await halfway.send(request[10:])
    app.release()
    assert await drain == 0
    assert waiting.received == answers(b"GET /hold 0", last=[CLOSE])
    assert pipelining.received == answers(*[b"GET /a 0"] * 3, last=[CLOSE])
    assert halfway.received == answers(b"GET /a 0", last=[CLOSE])
    assert (idle.received, idle.transport.state) == (b"", "ended")


@in_loop
async def test_drain_cuts_what_does_not_end_in_time() -> None:
    server = HttpServer(App(), HttpLimits())
    client = Client(server)
    await client.send(b"GET /hold HTTP/1.1" + HOST + b"\r\n")
    assert await server.drain(0.3) == 1
    assert client.transport.state == "cut"


# What matters for the cost


def test_whole_answer_leaves_in_one_write() -> None:
    async def scenario() -> int:
        server = HttpServer(App(), HttpLimits())
        client = Client(server)
        await client.send(b"GET /a HTTP/1.1" + HOST + b"\r\n")
        server.close()
        return client.transport.writes

    assert run(scenario) == 1


def test_answer_carries_the_date_of_its_second() -> None:
    async def scenario() -> bytes:
        server = HttpServer(App(), HttpLimits())
        client = Client(server)
        await client.send(b"GET /a HTTP/1.1" + HOST + b"\r\n")
        server.close()
        return client.transport.received

    form = rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n"
    assert re.search(form, run(scenario))


# Properties

STREAM = b"".join(
    request for request, _, state in SERVED.values() if state == "open" and b"1.0" not in request
)
STREAM_ANSWERS = b"".join(
    answer
    for request, answer, state in SERVED.values()
    if state == "open" and b"1.0" not in request
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=40).map(sorted))
def test_many_requests_cut_anywhere_get_their_answers_in_order(places: list[int]) -> None:
    reads = [STREAM[a:b] for a, b in itertools.pairwise([0, *places, len(STREAM)])]
    received, state, _ = exchange([read for read in reads if read])
    assert (received, state) == (STREAM_ANSWERS, "open")


HEADERS = (
    b"Host: h",
    b"Host: h\r\nA: GET /a HTTP/1.1",
    b"A: b\r\nHost: h",
    b"Host: h\r\nConnection: keep-alive",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost: h",
)
BODIES = (b"", b"x", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n\r\n")
TARGETS = st.sampled_from((b"/a", b"/b?c", b"/%41", b"/long" * 9))
REQUESTS = st.one_of(
    st.builds(
        lambda target, headers: b"GET " + target + b" HTTP/1.1\r\n" + headers + b"\r\n\r\n",
        TARGETS,
        st.sampled_from(HEADERS),
    ),
    st.builds(
        lambda method, target, headers, body: (
            b"%b %b HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n%b"
            % (method, target, headers, len(body), body)
        ),
        st.sampled_from((b"POST", b"PUT", b"GET")),
        TARGETS,
        st.sampled_from(HEADERS[:-1]),
        st.sampled_from(BODIES),
    ),
)
Asked = tuple[bytes, bytes, list[tuple[bytes, bytes]], tuple[str, bytes]]


def asked(app: App) -> list[Asked]:
    return [
        (each["raw_path"], each["query_string"], each["headers"], request)
        for each, request in zip(app.scopes, app.requests, strict=True)
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=8), st.lists(st.integers(1, 400), max_size=6))
def test_repeated_heads_are_read_as_if_each_were_the_first(
    requests: list[bytes], places: list[int]
) -> None:
    apart = [asked(exchange([request])[2])[0] for request in requests]
    stream = b"".join(requests)
    cut_at = [0, *sorted(place for place in set(places) if place < len(stream)), len(stream)]
    reads = [stream[a:b] for a, b in itertools.pairwise(cut_at)]
    assert asked(exchange(requests)[2]) == apart
    assert asked(exchange(reads)[2]) == apart


@pytest.mark.parametrize(
    "reads",
    [
        # The bytes of a whole request inside a header, then the same bytes as a request.
        [b"GET /a HTTP/1.1\r\nX: ", b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"],
        [b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nX: "],
    ],
)
def test_request_inside_a_header_teaches_the_reader_nothing(reads: list[bytes]) -> None:
    again = b"GET /c HTTP/1.1\r\nHost: h\r\n\r\n"
    _, _, app = exchange([*reads, again, again, again])
    assert asked(app)[-1] == (b"/c", b"", [(b"host", b"h")], ("GET /c", b""))


def test_method_begun_before_a_known_head_is_not_forgotten() -> None:
    get = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    received, _, _ = exchange([get, get + b"GE", get])
    assert received == answers(b"GET /a 0", b"GET /a 0") + refusal(framing.MALFORMED)


MANGLED = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda request, at, junk, drop: (
            request[: at % len(request)] + junk + request[at % len(request) + drop :]
        ),
        st.sampled_from([request for request, _, _ in TABLE.values()]),
        st.integers(0, 400),
        st.binary(max_size=8),
        st.integers(0, 8),
    ),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(MANGLED, min_size=1, max_size=4), st.booleans())
def test_any_bytes_get_an_answer_or_a_close_and_never_a_5xx(reads: list[bytes], eof: bool) -> None:
    received, state, app = exchange(reads, eof=eof, max_body_bytes=100)
    assert not re.search(rb"HTTP/1\.1 5\d\d", received)
    assert state in ("open", "ended")
    assert set(app.ends) <= {"returned", "ClientDisconnected", "CancelledError"}


@in_loop
async def test_whole_answer_in_one_message_is_written_as_in_two() -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    one = [{"type": framing.WHOLE_ANSWER, "status": 200, "headers": headers, "body": b"ok"}]
    two = [
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": b"ok"},
    ]
    received = []
    for messages in (one, two):

        async def app(scope: Any, _: Any, send: Any, messages: Any = messages) -> None:
            assert framing.WHOLE_ANSWER in scope["extensions"]
            for message in messages:
                await send(message)

        server = HttpServer(app, HttpLimits())
        client = Client(server)
        await client.send(b"GET /a HTTP/1.1" + HOST + b"\r\n")
        received.append(client.received)
        server.close()
    assert received[0] == received[1]
    assert received[0].endswith(b"\r\n\r\nok")
