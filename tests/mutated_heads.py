"""Requests with mutated heads, and one application that is asked by both ways with each.

Both ways get the same bytes in the same pieces, on connections in memory, and must give the same
status, headers and body. What differs by nature is masked: dates, ids that are made here, a
replica's lag, and the places of writes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from synap.config.keys import Config
from synap.http.api.app import create_app
from synap.http.api.headers import read_names
from synap.http.api.request import ID_PREFIX
from synap.http.server.connection import Connection
from synap.http.server.lifespan import Lifespan
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from tests.unit.http.server.memory_transport import MemoryTransport

_DEADLINE_SECONDS = 10.0
_ODD_BYTES = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b"\x7f",
    b"\xe4",
    b",",
    b"\r\n ",
    b"",
)
_FRAMING = ("Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Expect",
            "Proxy-Connection", "TE", "Upgrade", "Trailer", "Keep-Alive")  # fmt: skip
_CLIENTS = ("User-Agent", "Accept", "traceparent", "Cookie", "X-Forwarded-For", "X-Own", "Via",
            "X-Real-IP", "X-Forwarded-Proto", "X-Unique-ID", "If-Range", "_")  # fmt: skip
_NAMES = (*_FRAMING, *_CLIENTS, *(name.decode() for name in sorted(read_names())))
_VALUES = (
    "x", "", "1", "0", "17", "localhost", "h", "application/json", "text/plain", "keep-alive",
    "close", "chunked", "gzip, chunked", "100-continue", "h2c", "a, b", "Application/JSON; a=b",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "1-00000000", "0-00000000", "*",
    '"1-00000000"', 'W/"1-9f2c11aa", "x"', "bad tag", "99999999999999999999", "-1", "+3", "007",
    "1-9f2c11aa", "203.0.113.7", "::1", "trailing ", "tab\there", "id.of:a/client=1", "x" * 200,
    "Bearer sk_none", "Basic bm9uZTpub25l", "Digest x", "https://app.example", "cross-site",
)  # fmt: skip
_BODY = b'{"key":"heads:a","value":"v"}'
_REQUESTS: tuple[tuple[str, str, bytes], ...] = (
    ("GET", "/kv/get/heads:a", b""), ("GET", "/kv/get/heads:none", b""),
    ("GET", "/kv/get/%68eads:a", b""), ("GET", "/kv/get/%ff", b""), ("GET", "/kv/heads:a/ttl", b""),
    ("GET", "/key/heads:a/exists", b""), ("GET", "/raw/heads:a", b""), ("GET", "/kv/get/", b""),
    ("GET", "/kv/scan/ttl", b""), ("GET", "/kv/get/heads:a?type=bytes", b""),
    ("HEAD", "/raw/a", b""),
    ("POST", "/kv/set", _BODY), ("POST", "/kv/set", _BODY[:-1]), ("POST", "/kv/incr", _BODY),
    ("POST", "/kv/mget", b'{"keys":["heads:a","b"]}'), ("PUT", "/raw/heads:b", b"\x00raw"),
    ("DELETE", "/raw/heads:none", b""), ("DELETE", "/kv/del/heads:none", b""),
    ("POST", "/kv/heads:b/expire", b'{"ttl":100}'), ("POST", "/kv/heads:a/persist", b""),
    ("POST", "/api/v1/command", b'{"command":"kv.get","payload":{"key":"heads:a"}}'),
    ("POST", "/api/v1/command", b'{"command":"kv.set","payload":{"key":"heads:b","value":1}}'),
    ("POST", "/api/v1/command", b'{"command":"kv.ttl","payload":{"key":"heads:none"}}'),
)  # fmt: skip

_MASKS = (
    (re.compile(rb"\r\ndate: [^\r]+"), b""),
    (re.compile(ID_PREFIX.encode() + rb"[0-9a-f]+"), b"own-id"),
    (re.compile(rb"(?i)(x-synap-lag-ms): \d+"), rb"\1: n"),
    # Of requests with an Idempotency-Key, which are never taken, the one that comes later.
    (re.compile(rb"(?i)\r\nidempotent-replayed: true"), b""),
)
_PLACES = (
    (re.compile(rb"(?i)(x-synap-offset): \d+"), rb"\1: n"),
    (re.compile(rb"\b\d+-([0-9a-f]{8})\b"), rb"n-\1"),
)


class Mutator:
    """Makes requests; equal seeds make equal ones."""

    def __init__(self, seed: int, credentials: Sequence[str]) -> None:
        """
        Args:
            credentials: Values of Authorization that are right; none for none.
        """
        self._random = Random(seed)
        self._credentials = credentials

    def request(self) -> list[bytes]:
        """Return a request in the pieces in which it is read."""
        random = self._random
        method, path, body = random.choice(_REQUESTS)
        lines = [("Host", "localhost")]
        if body or random.random() < 0.1:
            lines.append(("Content-Length", str(len(body))))
        if body and random.random() < 0.7:
            lines.append(("Content-Type", "application/json"))
        if self._credentials and random.random() < 0.9:
            lines.append(("Authorization", random.choice(self._credentials)))
        for _ in range(random.choice((0, 0, 0, 0, 1, 1, 1, 2, 3, 7))):
            lines.append((random.choice(_NAMES), random.choice(_VALUES)))
        lines = self._changed(lines)
        told = [self._line(name, value) for name, value in lines]
        head = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *told, b"", b""])
        data = head + body
        if random.random() < 0.15:
            data = self._with_odd_byte(data, len(head))
        return self._pieces(data, len(head))

    def _changed(self, lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
        random = self._random
        if random.random() < 0.5:
            random.shuffle(lines)
        chance = random.random()
        if chance < 0.08:
            lines.append(random.choice(lines))
        elif chance < 0.12:
            lines.pop(random.randrange(len(lines)))
        elif chance < 0.13:
            lines += [(f"X-{number}", "y") for number in range(random.choice((95, 98, 99, 120)))]
        return lines

    def _line(self, name: str, value: str) -> bytes:
        random = self._random
        spelled = random.choice((name, name, name.lower(), name.upper()))
        between = random.choice((": ",) * 40 + (":", ":  ", " : ", ":\t"))
        return f"{spelled}{between}{value}".encode("latin-1")

    def _with_odd_byte(self, data: bytes, head_bytes: int) -> bytes:
        at = self._random.randrange(head_bytes)
        cut = at + self._random.choice((0, 1))
        return data[:at] + self._random.choice(_ODD_BYTES) + data[cut:]

    def _pieces(self, data: bytes, head_bytes: int) -> list[bytes]:
        random = self._random
        chance = random.random()
        if chance < 0.7:
            return [data]
        if chance < 0.85:
            return [data[:head_bytes], data[head_bytes:]]
        cuts = sorted(random.randrange(len(data)) for _ in range(random.choice((1, 2))))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]


class Both:
    """An application that serves by both ways.

    Attributes:
        taken: How many requests the short way took.
    """

    def __init__(self, app: Any, short: HttpServer, long: HttpServer) -> None:
        self.taken = 0
        self._servers = short, long
        self._fast_path = short.fast_path
        short.fast_path = self
        long.fast_path = None

    def take(self, data: bytes, client: Any) -> bool:
        assert self._fast_path is not None
        is_taken = self._fast_path.take(data, client)
        self.taken += is_taken
        return is_taken

    def pause(self, is_paused: bool) -> None:
        assert self._fast_path is not None
        self._fast_path.pause(is_paused)

    async def compare(self, pieces: list[bytes]) -> None:
        """Send a request by both ways.

        Raises:
            AssertionError: the answers differ.
        """
        transports = [MemoryTransport(Connection(server)) for server in self._servers]
        loop = asyncio.get_running_loop()
        for transport in transports:
            # From the loop, as reads come, and not inside this task.
            for piece in filter(None, pieces):
                loop.call_soon(transport.feed, piece)
            loop.call_soon(transport.feed_eof)
        deadline = loop.time() + _DEADLINE_SECONDS
        while not all(each.has_ended or each.is_cut for each in transports):
            has_time = loop.time() < deadline
            assert has_time, f"{pieces!r}: no answer: {[each.received for each in transports]}"
            await asyncio.sleep(0)
        is_read = pieces[0].startswith((b"GET", b"HEAD"))
        short, long = (_masked(each.received, is_read=is_read) for each in transports)
        assert short == long, f"{pieces!r}\nshort: {short!r}\nlong:  {long!r}"
        for transport in transports:
            transport.abort()


def _masked(received: bytes, *, is_read: bool) -> list[tuple[list[bytes], bytes]]:
    """Return the answers, each with its lines in order and its body, without what differs."""
    for pattern, mask in _MASKS if is_read else (*_MASKS, *_PLACES):
        received = pattern.sub(mask, received)
    answers = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        # Masks change lengths, and no two answers follow each other where a body is not sent.
        body_bytes = int(length[1]) if length and b"HTTP/1.1 " in rest else len(rest)
        first, *lines = head.split(b"\r\n")
        shown = [re.sub(rb"(?i)^content-length: \d+", b"content-length: n", each) for each in lines]
        answers.append(([first, *sorted(shown, key=bytes.lower)], rest[:body_bytes]))
        received = rest[body_bytes:]
    return answers


async def compare_many(config: Config, seed: int, count: int, credentials: Sequence[str]) -> float:
    """Send requests by both ways; return the part of them that the short way took.

    Raises:
        AssertionError: the answers to one differ; the message has the seed.
    """
    app = create_app(config)
    lifespan = Lifespan(app, is_required=True)
    await lifespan.startup()
    limits = msgspec.structs.replace(HttpLimits.of(config), max_connections_of_address=0)
    servers = [HttpServer(app, limits, state=lifespan.state) for _ in range(2)]
    both, mutator = Both(app, servers[0], servers[1]), Mutator(seed, credentials)
    try:
        for number in range(count):
            try:
                await both.compare(mutator.request())
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, request {number}: {error}") from error
    finally:
        for server in servers:
            server.close()
        await lifespan.shutdown()
    return both.taken / count
