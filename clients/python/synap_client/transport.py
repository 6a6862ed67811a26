"""Transports for httpx over the nodes of a cluster.

Whatever host a request names, it goes to a node: writes to the master, reads to replicas that are
new enough. What fails is sent again where that is safe. The rules are in `synap_client.rules`;
here they get sockets, the clock and chance.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import aclosing, closing
from dataclasses import dataclass, replace

import httpx

from synap_client.errors import NotForACluster, OutcomeUnknown, Unreachable
from synap_client.rules.answers import Answer, answer_of
from synap_client.rules.attempts import Attempts, Pause, Send, Stop
from synap_client.rules.kinds import Way, kind_of
from synap_client.rules.nodes import Nodes
from synap_client.rules.positions import Positions

# Those that have not reached the node: a connection was not made, or none was free.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_CONSISTENCY = "X-Synap-Consistency"
_KEY, _MIN_POSITION = "Idempotency-Key", "X-Synap-Min-Position"
# httpx gives these anew, by the node and the body.
_OWN_HEADERS = ("host", "content-length", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class Options:
    """How a transport behaves.

    Attributes:
        deadline_seconds: How long one request is sent again before it is given up.
        connect_seconds: How long a node may take to accept a connection.
        max_lag_ms: How old what a replica tells may be, by its `X-Synap-Lag-Ms`; None where
            anything goes, also while no master can be reached.
        reads_from_replicas: Whether reads go to replicas first; else to the master first.
        has_keys: Whether writes get an `Idempotency-Key` where they have none. Without one, a
            write is sent again only where it has surely not been done.
        min_replicas: How many replicas must hold a write before it is answered, where the request
            does not say; 0 leaves it to the cluster.
        reads_strongly: Whether reads of keys see every write that was acknowledged before, by
            whomever: they go to the master, which needs a lease (`failover.engine`).
    """

    deadline_seconds: float = 30.0
    connect_seconds: float = 2.0
    max_lag_ms: int | None = 10_000
    reads_from_replicas: bool = True
    has_keys: bool = True
    min_replicas: int = 0
    reads_strongly: bool = False


DEFAULTS = Options()


class _Call:
    """One request on its way: what is sent for it, and what has come back so far."""

    def __init__(self, request: httpx.Request, body: bytes, state: _State) -> None:
        options = state.options
        self._request = request
        self._body = body
        self.kind = kind_of(request.method, request.url.path, request.headers, body)
        if self.kind.way is Way.ONE_NODE:
            what = f"{request.method} {request.url.path}"
            raise NotForACluster(f"{what} is for one node: send it there", request=request)
        self._headers = [
            (name, value)
            for name, value in request.headers.multi_items()
            if name.lower() not in _OWN_HEADERS
        ]
        self.key = request.headers.get(_KEY, "") if self.kind.takes_key else ""
        if self.kind.takes_key and not self.key and options.has_keys:
            self.key = uuid.uuid4().hex
            self._headers.append((_KEY, self.key))
        if (
            self.kind.takes_key
            and options.min_replicas
            and not _has(request, "X-Synap-Min-Replicas")
        ):
            self._headers.append(("X-Synap-Min-Replicas", str(options.min_replicas)))
        if self.kind.is_read_of_data and options.reads_strongly:
            self.kind = replace(self.kind, needs_master=True)
            if not _has(request, _CONSISTENCY):
                self._headers.append((_CONSISTENCY, "strong"))
        self._options = options
        self._lock = state.lock
        self._attempts = Attempts(
            self.kind,
            state.nodes,
            state.positions,
            has_key=bool(self.key),
            max_lag_ms=options.max_lag_ms,
            deadline=time.monotonic() + options.deadline_seconds,
            random=random.random,
        )
        self._answer: Answer | None = None
        self._response: httpx.Response | None = None
        self._error: httpx.TransportError | None = None

    def next(self) -> Send | Pause | httpx.Response:
        """Return what to do, or what to hand to the caller."""
        with self._lock:
            step = self._attempts.next(time.monotonic())
        return self._ended(step) if isinstance(step, Stop) else step

    def request_to(self, step: Send) -> httpx.Request:
        """Return the request for one node."""
        headers = list(self._headers)
        if step.min_position and not _has(self._request, _MIN_POSITION):
            headers.append((_MIN_POSITION, step.min_position))
        node = httpx.URL(step.url)
        url = self._request.url.copy_with(scheme=node.scheme, host=node.host, port=node.port)
        timeouts = dict(self._request.extensions.get("timeout") or {})
        for name in ("connect", "read", "write", "pool"):
            if self.kind.is_stream and name == "read":
                continue
            most = self._options.connect_seconds if name == "connect" else step.seconds
            timeouts[name] = min(timeouts.get(name) or most, most, step.seconds)
        extensions = {**self._request.extensions, "timeout": timeouts}
        return httpx.Request(
            self._request.method, url, headers=headers, content=self._body, extensions=extensions
        )

    def is_handed_on(self, response: httpx.Response) -> bool:
        """Whether the answer is the caller's to read as it comes."""
        return self.kind.is_stream and response.status_code < 400

    def answered(self, step: Send, response: httpx.Response, body: bytes) -> bool:
        """Note an answer, and say whether it is the caller's."""
        answer = answer_of(
            response.status_code, response.headers, body, is_command=self.kind.is_command
        )
        self._answer, self._response = answer, response
        with self._lock:
            return self._attempts.answered(step, answer)

    def broke(self, step: Send, error: httpx.TransportError) -> None:
        """Note that no answer came.

        Raises:
            OutcomeUnknown: it can't be sent again, and may have been done.
        """
        self._error = error
        was_sent = not isinstance(error, _NOT_SENT)
        with self._lock:
            is_over = self._attempts.broke(step, time.monotonic(), was_sent=was_sent)
        if is_over:
            raise self._unknown() from error

    def _ended(self, step: Stop) -> httpx.Response:
        if step.is_unknown:
            raise self._unknown() from self._error
        if self._answer is None or self._response is None:
            raise Unreachable(
                f"no node answered in {self._options.deadline_seconds:g} s: {self._error}",
                request=self._request,
            ) from self._error
        if self._answer.status < 400 and not self._answer.is_refused_command:
            lag = f"all data that was found is older than {self._options.max_lag_ms} ms"
            raise Unreachable(lag, request=self._request)
        return self._response

    def _unknown(self) -> OutcomeUnknown:
        why = self._error or (self._answer.reason if self._answer else "")
        return OutcomeUnknown(
            f"whether the write was done is not known: {why}",
            request=self._request,
            idempotency_key=self.key,
        )


def _has(request: httpx.Request, header: str) -> bool:
    return header in request.headers


def _whole(response: httpx.Response, body: bytes) -> httpx.Response:
    """Return an answer whose body is here, as it came, encoded or not."""
    told: dict[str, object] = {
        name: response.extensions[name]
        for name in ("http_version", "reason_phrase")
        if name in response.extensions
    }
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=httpx.ByteStream(body),
        extensions=told,
    )


class _State:
    """What the requests of one transport share."""

    def __init__(self, urls: Iterable[str], options: Options) -> None:
        self.options = options
        self.nodes = Nodes(urls, has_replicas_read=options.reads_from_replicas)
        self.positions = Positions()
        self.lock = threading.Lock()


class _OverNodes:
    """What both transports have."""

    def __init__(self, nodes: Iterable[str], options: Options) -> None:
        self._state = _State(nodes, options)

    @property
    def position(self) -> str:
        """Of the newest write, for `see` of another client; empty before the first."""
        return self._state.positions.newest

    def see(self, position: str) -> None:
        """Have reads from now on see what was written at `position`, by whomever.

        Raises:
            ValueError: it is no position.
        """
        with self._state.lock:
            self._state.positions.see(position)


class ClusterTransport(_OverNodes, httpx.BaseTransport):
    """A transport for `httpx.Client` over a list of nodes; threads may share it.

    Args:
        nodes: Their URLs, such as `http://10.0.0.1:15500`.
        options: How it behaves.
        inner: What speaks to one node; by default httpx's own, which checks certificates.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        options: Options = DEFAULTS,
        inner: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(nodes, options)
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Have a node answer; see `httpx.BaseTransport`.

        Raises:
            httpx.TransportError: no node did, in time.
        """
        call = _Call(request, request.read(), self._state)
        while True:
            step = call.next()
            if isinstance(step, httpx.Response):
                return step
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            try:
                response = self._inner.handle_request(call.request_to(step))
                body = b""
                if not call.is_handed_on(response):
                    with closing(response):
                        assert isinstance(response.stream, httpx.SyncByteStream)
                        body = b"".join(response.stream)
                    response = _whole(response, body)
            except httpx.TransportError as error:
                call.broke(step, error)
                continue
            if call.answered(step, response, body):
                return response
            if call.is_handed_on(response):
                response.close()

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class AsyncClusterTransport(_OverNodes, httpx.AsyncBaseTransport):
    """As `ClusterTransport`, for `httpx.AsyncClient`."""

    def __init__(
        self,
        nodes: Iterable[str],
        options: Options = DEFAULTS,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(nodes, options)
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Have a node answer; see `httpx.AsyncBaseTransport`.

        Raises:
            httpx.TransportError: no node did, in time.
        """
        call = _Call(request, await request.aread(), self._state)
        while True:
            step = call.next()
            if isinstance(step, httpx.Response):
                return step
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                response = await self._inner.handle_async_request(call.request_to(step))
                body = b""
                if not call.is_handed_on(response):
                    async with aclosing(response):
                        assert isinstance(response.stream, httpx.AsyncByteStream)
                        body = b"".join([part async for part in response.stream])
                    response = _whole(response, body)
            except httpx.TransportError as error:
                call.broke(step, error)
                continue
            if call.answered(step, response, body):
                return response
            if call.is_handed_on(response):
                await response.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
