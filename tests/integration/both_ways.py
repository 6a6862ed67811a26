"""One application asked by both ways: the short one, and the way of every request.

The application runs in this process, on the store, the board and the writer of a shared node.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, BinaryIO

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.http.api.request import App
from tests.integration.http_support import DEADLINE_SECONDS, serving
from tests.support import HOST, Answer, Node

JSON = {"Content-Type": "application/json"}
# Makes a request go the way of all, and changes nothing else.
ASIDE = {"X-Synap-Of-No-Meaning": "0"}
PLACES = ("x-synap-offset", "x-synap-position")
# What differs from one answer to the next.
_VERSION = re.compile(rb"[0-9]+-[0-9a-f]{8}")
MOVING = {"date", "x-request-id", "x-synap-lag-ms", "etag", *PLACES}


class Counted:
    """The short way, with what it took counted."""

    def __init__(self, fast_path: Any) -> None:
        self._fast_path = fast_path
        self.taken = 0

    def pause(self, is_paused: bool) -> None:
        self._fast_path.pause(is_paused)

    def take(self, data: bytes, client: Any) -> bool:
        is_taken: bool = self._fast_path.take(data, client)
        self.taken += is_taken
        return is_taken


class Ways:
    """Asks one application by either way, on a connection that is kept."""

    def __init__(self, port: int, fast_path: Counted) -> None:
        self.port = port
        self._fast_path = fast_path
        self._socket = socket.create_connection((HOST, port), DEADLINE_SECONDS)

    @property
    def taken(self) -> int:
        return self._fast_path.taken

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Answer, bool]:
        """Send a request in one piece; return the answer, and whether it took the short way."""
        before = self._fast_path.taken
        length = {} if body is None else {"Content-Length": str(len(body))}
        fields = {"Host": "localhost", **length, **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
        self._socket.sendall("\r\n".join(lines).encode() + (body or b""))
        answer = HTTPResponse(self._socket, method=method)
        answer.begin()
        received = {name.lower(): value for name, value in answer.getheaders()}
        found = Answer(answer.status, received, answer.read())
        if received.get("connection") == "close":
            self.close()
            self._socket = socket.create_connection((HOST, self.port), DEADLINE_SECONDS)
        return found, self._fast_path.taken > before

    def short(self, *request: Any) -> Answer:
        """Return the first answer that came by the short way.

        The first request teaches its head; one that comes while the connection still puts the one
        before it away goes the way of all.
        """
        for _ in range(10):
            answer, is_short = self.send(*request)
            if is_short:
                return answer
        raise AssertionError(f"{request} does not go the short way")

    def long(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Return the answer by the way of all."""
        answer, is_short = self.send(method, path, body, {**(headers or {}), **ASIDE})
        assert not is_short
        return answer

    @property
    def both(self) -> tuple[Any, Any]:
        return self.short, self.long

    def put(self, key: str, value: object, **more: object) -> None:
        body = json.dumps({"key": key, "value": value, **more}).encode()
        assert self.long("POST", "/kv/set", body, JSON).status == 200

    def close(self) -> None:
        self._socket.close()


def config_of(node: Node, **settings: Any) -> Config:
    """Return a node's configuration with others' settings; `auth__enabled` is `auth.enabled`."""
    more = {name.replace("__", "."): value for name, value in settings.items()}
    return load_config(None, {k: str(v) for k, v in (node.settings | more).items()}, environ={})


def shape(answer: Answer) -> tuple[int, dict[str, str], set[str], bytes]:
    """Return what must be equal by both ways."""
    fixed = {name: value for name, value in answer.headers.items() if name not in MOVING}
    body = _VERSION.sub(b"VERSION", answer.body)
    if body != answer.body:
        # A version has as many digits as its offset.
        assert fixed.pop("content-length") == str(len(answer.body))
    return answer.status, fixed, set(answer.headers), body


def read_answer(answers: BinaryIO) -> tuple[int, bytes]:
    """Return status and body of the next answer."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline().strip()) != b"":
        name, _, value = line.partition(b": ")
        length = int(value) if name == b"content-length" else length
    return status, answers.read(length)


def _counting(counted: list[Counted]) -> Any:
    def prepare(app: App) -> None:
        app.fast_path = Counted(app.fast_path)
        counted.append(app.fast_path)

    return prepare


@contextmanager
def both_ways(config: Config) -> Iterator[Ways]:
    """Serve the application alone, and ask it by either way."""
    counted: list[Counted] = []
    with serving(config, _counting(counted)) as client:
        ways = Ways(client.port, counted[0])
        try:
            yield ways
        finally:
            ways.close()
