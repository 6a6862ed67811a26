"""A call to a running node's HTTP API, for the command line.

Whatever answers may be no node: it gets so much time and memory and no more, what it says is made
printable, and what it leaves out is an error in words.

All commands call nodes by the standard library's client. httpx, which the Python client has, would
be one more dependency of every node, and take each command three times as long to load.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getpass
from typing import Any, TypeVar

from synap.config.variables import CLIENT_CERTIFICATE_VARIABLE, SECRET_FILE_SUFFIX
from synap.login_environment import API_KEY, HINT, PASSWORD, USER, login_headers
from synap.tls import client_context
from workers.cli.silence import distrust_in, sentence
from workers.printable import printable

# A node answers when the work is done, which takes minutes where the store is large.
_TIMEOUT_SECONDS = 3600.0
# Far above what a node answers to a command: a row for each member of a cluster.
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
# Longer than the longest value.
_MAX_VALUE_BYTES = 2 * 1024 * 1024 * 1024
# A node's answer about keys has one of them.
_NODE_HEADERS = ("X-Synap-Offset", "X-Synap-Position")
# Refusals that a node gives while its role changes, or while it has too much to do.
_FOR_NOW = (421, 429, 503)
# A refusal that says where the master is, beside its words.
_NOT_THE_MASTER = "read_only_replica"

T = TypeVar("T")


class CallFailed(OSError):
    """The node could not be reached, or refused; the message says which and why."""


class NodeDistrusted(CallFailed):
    """The node was not asked, for its certificate is refused."""


class CallRefused(CallFailed):
    """The node answered, and with an error.

    Attributes:
        is_for_now: Whether it may take the same a little later.
        reason: The error's name, as docs/api.md lists them; empty where it is no node's.
        facts: All that the answer says; empty where that is no JSON object.
    """

    def __init__(
        self,
        message: str,
        *,
        is_for_now: bool = False,
        reason: str = "",
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.is_for_now = is_for_now
        self.reason = reason
        self.facts = facts or {}


@dataclass(frozen=True, slots=True)
class Reply:
    """A node's answer as it came; not fit for a terminal.

    Attributes:
        body: Its bytes.
        etag: Version of the key, without quotes; empty where there is none.
    """

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Health:
    """What a node answers to `/health`.

    Attributes:
        facts: Its fields.
        date: The answer's Date; empty where there is none.
    """

    facts: dict[str, Any]
    date: str


def has_credentials() -> bool:
    """Say whether the calls show the node who asks.

    Raises:
        ConfigInvalid: as `login_headers`.
    """
    return bool(credentials() or os.environ.get(CLIENT_CERTIFICATE_VARIABLE))


def credentials() -> dict[str, str]:
    """Return the headers that say who asks, having asked for a password that nobody has given.

    Raises:
        ConfigInvalid: as `login_headers`.
    """
    is_given = os.environ.get(PASSWORD) or os.environ.get(PASSWORD + SECRET_FILE_SUFFIX)
    has_key = os.environ.get(API_KEY) or os.environ.get(API_KEY + SECRET_FILE_SUFFIX)
    user = os.environ.get(USER)
    if user and not is_given and not has_key and sys.stdin.isatty():
        # For the calls that follow.
        os.environ[PASSWORD] = getpass(f"Password of {printable(user)}: ")
    return login_headers()


def call(
    method: str,
    url: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 60.0,
) -> Reply:
    """Send a request of data to the node at `url`, and return its answer as it came.

    Args:
        path: Escaped, with its query.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no answer, or one that is no node's.
    """
    request = urllib.request.Request(
        url.rstrip("/") + path, body, dict(headers or {}), method=method
    )
    if body is not None and not request.has_header("Content-type"):
        request.add_header("Content-Type", "application/octet-stream")
    return _exchange(request, timeout_seconds, _reply_in)


def post(
    url: str,
    path: str,
    body: dict[str, Any] | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """Send a POST to the node at `url`, empty without a body, and return its answer.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no answer.
    """
    data = b"" if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method="POST")
    return _send(request, timeout_seconds)


def post_bytes(
    url: str,
    path: str,
    data: bytes,
    headers: Mapping[str, str],
    timeout_seconds: float = 60.0,
) -> dict[str, Any]:
    """Send a POST of bytes to the node at `url` and return its answer.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no answer.
    """
    headers = {"Content-Type": "application/octet-stream", **headers}
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method="POST")
    return _send(request, timeout_seconds)


@contextmanager
def stream(
    url: str, path: str, idle_seconds: float = 60.0, headers: Mapping[str, str] | None = None
) -> Iterator[http.client.HTTPResponse]:
    """Have a GET's answer, to be read piece by piece.

    Args:
        idle_seconds: How long the node may be silent.
        headers: Of the request, beside those that say who asks.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no whole answer.
    """
    request = urllib.request.Request(url.rstrip("/") + path, headers=dict(headers or {}))
    for name, value in credentials().items():
        request.add_unredirected_header(name, value)
    try:
        with _Watch(idle_seconds).opener().open(request, timeout=idle_seconds) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        raise _refusal(request, error) from error
    except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
        words = str(error) or type(error).__name__
        raise CallFailed(printable(f"{request.full_url} gave no whole answer: {words}")) from error
    except urllib.error.URLError as error:
        raise _no_answer(request, error) from error


def get(
    url: str,
    path: str,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Send a GET to the node at `url` and return its answer.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no answer.
    """
    request = urllib.request.Request(url.rstrip("/") + path, headers=dict(headers or {}))
    return _send(request, timeout_seconds)


def health(url: str, timeout_seconds: float) -> Health:
    """Return what the node at `url` answers to `/health`, well or not.

    Raises:
        CallRefused: it answered with something else.
        CallFailed: there was no answer.
    """
    request = urllib.request.Request(url.rstrip("/") + "/health")
    try:
        return _exchange(request, timeout_seconds, _health_in)
    except CallRefused as refused:
        told = refused.__cause__
        if isinstance(told, urllib.error.HTTPError) and refused.facts.get("service") == "synap":
            return Health(refused.facts, told.headers.get("Date") or "")
        raise


def _health_in(answer: http.client.HTTPResponse) -> Health:
    return Health(_object_in(answer), answer.headers.get("Date") or "")


def delete(url: str, path: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> dict[str, Any]:
    """Send a DELETE to the node at `url` and return its answer.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no answer.
    """
    request = urllib.request.Request(url.rstrip("/") + path, method="DELETE")
    return _send(request, timeout_seconds)


class _Answer(dict[str, Any]):
    """An object of an answer; a field that it lacks is the node's fault."""

    def __missing__(self, name: str) -> Any:
        raise CallFailed(f"an answer without {name} is no Synap node's")


def _send(request: urllib.request.Request, timeout_seconds: float) -> dict[str, Any]:
    return _exchange(request, timeout_seconds, _object_in)


def _exchange(
    request: urllib.request.Request,
    timeout_seconds: float,
    read: Callable[[http.client.HTTPResponse], T],
) -> T:
    for name, value in credentials().items():
        # Where an answer leads elsewhere, they stay here.
        request.add_unredirected_header(name, value)
    watch = _Watch(timeout_seconds)
    try:
        with watch, watch.opener().open(request, timeout=timeout_seconds) as answer:
            return read(answer)
    except urllib.error.HTTPError as error:
        raise _refusal(request, error) from error
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        over = TimeoutError(f"not within {timeout_seconds:g} s")
        raise _no_answer(request, over if watch.is_over else error) from error


def _no_answer(request: urllib.request.Request, error: Exception) -> CallFailed:
    kind = CallFailed if distrust_in(error) is None else NodeDistrusted
    return kind(printable(sentence(request.full_url, error)))


def _reply_in(answer: http.client.HTTPResponse) -> Reply:
    """Return a node's answer.

    Raises:
        ValueError: it is none, or too long.
    """
    if not any(answer.headers.get(name) for name in _NODE_HEADERS):
        raise ValueError("it names no offset, and so is no Synap node")
    body = answer.read(_MAX_VALUE_BYTES + 1)
    if len(body) > _MAX_VALUE_BYTES:
        raise ValueError(f"more than {_MAX_VALUE_BYTES} bytes are no Synap node's answer")
    if answer.length != 0 and not answer.chunked:
        # A read of so many bytes at most takes the connection's end for the answer's.
        raise ValueError("it was cut before its end")
    return Reply(body, (answer.headers.get("ETag") or "").strip('"'))


class _Watch:
    """Ends a call that takes too long in all: a socket's timeout begins anew with each byte.

    Attributes:
        is_over: The time is over.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def opener(self) -> urllib.request.OpenerDirector:
        """Return what opens requests over connections that are watched."""
        watch = self

        class Http(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch.take(self.sock)

        class Https(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                watch.take(self.sock)

        class HttpHandler(urllib.request.HTTPHandler):
            def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Http, req)

        class HttpsHandler(urllib.request.HTTPSHandler):
            def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Https, req, context=client_context())

        opener = urllib.request.OpenerDirector()
        # Nothing that leads to a file or to FTP.
        for handler in (
            urllib.request.ProxyHandler, HttpHandler, HttpsHandler,
            urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
        ):  # fmt: skip
            opener.add_handler(handler())
        return opener

    def take(self, opened: socket.socket) -> None:
        """Watch a connection."""
        self._sockets.append(opened)
        if self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _object_in(answer: http.client.HTTPResponse | urllib.error.HTTPError) -> dict[str, Any]:
    """Return the JSON object of an answer, fit for a terminal.

    Raises:
        ValueError, RecursionError: there is none, or it is too long.
    """
    text = answer.read(_MAX_ANSWER_BYTES + 1)
    if len(text) > _MAX_ANSWER_BYTES:
        raise ValueError(f"more than {_MAX_ANSWER_BYTES} bytes are no Synap node's answer")
    found = _clean(json.loads(text))
    if not isinstance(found, dict):
        raise ValueError("it sends no JSON object, and so is no Synap node")
    return found


def _clean(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case list():
            return [_clean(each) for each in value]
        case dict():
            return _Answer({printable(name): _clean(each) for name, each in value.items()})
    return value


def _refusal(request: urllib.request.Request, error: urllib.error.HTTPError) -> CallRefused:
    facts = _facts_in(error)
    words, reason = f"{error}, and no word of a Synap node's", ""
    if error.code == http.HTTPStatus.UNAUTHORIZED:
        words, reason = HINT, "unauthorized"
    elif "error" in facts:
        words, reason = str(facts["error"]), str(facts.get("reason", ""))
    if reason == _NOT_THE_MASTER and facts.get("master"):
        words = f"{words} ({facts['master']})"
    return CallRefused(
        printable(f"{request.full_url}: {words}"),
        is_for_now=error.code in _FOR_NOW,
        reason=reason,
        facts=facts,
    )


def _facts_in(error: urllib.error.HTTPError) -> dict[str, Any]:
    """Return the JSON object that an error comes with; an empty one without."""
    with error:
        try:
            return _object_in(error)
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            return {}
