"""The typed clients: `Client`, and `AsyncClient` for asyncio."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

import httpx

from synap_client import commands
from synap_client.commands import Command, Json, Result, TxnResult, Value, refusal_of
from synap_client.transport import DEFAULTS, AsyncClusterTransport, ClusterTransport, Options
from synap_client.watching import Event, Follower, Watched

# The transport replaces it by a node's.
_BASE_URL = "http://synap"
# Above what a node may take for a write: the writer's answer, and that of its replicas.
_ANSWER_SECONDS = 10.0
# A stream shows that it is alive every 10 s.
_STREAM_SECONDS = 25.0
_TIMEOUT = httpx.Timeout(_ANSWER_SECONDS)
_STREAM_TIMEOUT = httpx.Timeout(_ANSWER_SECONDS, read=_STREAM_SECONDS)
# What a stream that is cut raises, once it has begun.
_CUT = (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError)


class Client:
    """A client of one cluster; threads may share it.

    Args:
        nodes: The URLs of its nodes, such as `http://10.0.0.1:15500`.
        options: How it behaves; see `Options`.
        api_key: Sent as `Authorization: Bearer`.
        auth: A user and a password, or another credential of httpx.
        inner: What speaks to one node; by default httpx's own, which checks certificates.

    Every call raises `Refused` where a node answers with an error, `Unreachable` where none could
    do it in time, and `OutcomeUnknown` where it may have been done; see `synap_client.errors`.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        options: Options = DEFAULTS,
        *,
        api_key: str = "",
        auth: tuple[str, str] | httpx.Auth | None = None,
        inner: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = ClusterTransport(nodes, options, inner)
        self._http = httpx.Client(
            transport=self._transport,
            base_url=_BASE_URL,
            auth=auth,
            headers=_headers(api_key),
            timeout=_TIMEOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    @property
    def http(self) -> httpx.Client:
        """For all that has no method here: requests go to the cluster, by path."""
        return self._http

    @property
    def position(self) -> str:
        """Of the newest write, for `see` of another client; empty before the first."""
        return self._transport.position

    def see(self, position: str) -> None:
        """Have reads from now on see what was written at `position`, by whomever.

        Raises:
            ValueError: it is no position.
        """
        self._transport.see(position)

    def get(self, key: str) -> str | None:
        """Return the text of a key; None where there is none.

        Raises:
            UnicodeDecodeError: the value is no text; see `get_value`.
        """
        found = self.get_value(key)
        return None if found is None else found.text

    def get_value(self, key: str) -> Value | None:
        """Return the bytes of a key, and its version; None where there is none."""
        return self._do(commands.get(key))

    def set(
        self,
        key: str,
        value: Json,
        *,
        ttl: int | None = None,
        nx: bool = False,
        xx: bool = False,
        if_version: str | None = None,
    ) -> bool:
        """Write a key, a string as its text, all else as JSON.

        Args:
            key: Its name.
            value: What it is to hold.
            ttl: Seconds that it lives; None for ever.
            nx: Only where there is no such key.
            xx: Only where there is one.
            if_version: Only where it has this version.

        Returns:
            Whether it was written: the condition held.
        """
        command = commands.set_(key, value, ttl=ttl, nx=nx, xx=xx, if_version=if_version)
        return self._do(command)

    def set_bytes(
        self,
        key: str,
        data: bytes,
        *,
        ttl: int | None = None,
        nx: bool = False,
        if_version: str | None = None,
    ) -> str | None:
        """Write bytes; return their version, or None where the condition did not hold."""
        return self._do(commands.set_bytes(key, data, ttl=ttl, nx=nx, if_version=if_version))

    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a key; return whether it was there, with this version where one is given."""
        return self._do(commands.delete(key, if_version=if_version))

    def mget(self, keys: Iterable[str]) -> list[str | None]:
        """Return the texts of several keys, as they were at once; None where there is none.

        What is no text comes as `<binary data: N bytes>`; see `get_value`.
        """
        return self._do(commands.mget(keys))

    def mset(self, pairs: Mapping[str, Json], *, ttl: int | None = None) -> None:
        """Write several keys: all of them or none."""
        self._do(commands.mset(pairs, ttl=ttl))

    def incr(self, key: str, amount: int = 1) -> int:
        """Add to a key, which counts as 0 where it is missing; return the sum."""
        return self._do(commands.incr(key, amount))

    def scan(self, prefix: str = "", *, pattern: str = "", page_size: int = 1000) -> Iterator[str]:
        """Yield the keys that begin with `prefix` and fit the glob `pattern`, in order."""
        cursor = ""
        while True:
            page = self._do(commands.scan(prefix, pattern, cursor, page_size))
            yield from page.keys
            cursor = page.cursor
            if not cursor:
                return

    def txn(
        self,
        conditions: Iterable[Mapping[str, Any]] = (),
        *,
        then: Iterable[Mapping[str, Any]] = (),
        otherwise: Iterable[Mapping[str, Any]] = (),
    ) -> TxnResult:
        """Do `then` where all conditions hold, else `otherwise`: all of it at once, or nothing.

        Args:
            conditions: Of `synap_client.txn`, as `txn.absent("lock")`.
            then: What is done where they hold, as `txn.set("lock", "me")`.
            otherwise: What is done where one does not.
        """
        return self._do(commands.txn(conditions, then, otherwise))

    def watch(
        self, watched: Watched | None = None, *, start: str = "", initial: bool = False
    ) -> Generator[Event, None, None]:
        """Yield what happens to keys, in order and without a gap, whatever node is lost meanwhile.

        Args:
            watched: Which keys; None for all.
            start: Go on after this position; empty begins now.
            initial: Tell first all keys as they are, also anew after a reset.

        Raises:
            WatchReset: the log does not go on from `start`, or from where the watcher was, and
                `initial` is not wanted.
        """
        follower = Follower(watched or Watched(), start, has_initial=initial)
        while True:
            begun = follower.begin()
            if begun is not None:
                yield begun
            with suppress(*_CUT), self._stream(follower) as response:
                if response.status_code >= 400:
                    response.read()
                    raise refusal_of(response)
                for line in response.iter_lines():
                    event = follower.line(line)
                    if event is not None:
                        yield event
                    if follower.is_over:
                        break
            time.sleep(follower.cut(random.random()))

    def _stream(self, follower: Follower) -> Any:
        return self._http.stream(
            "GET",
            "/watch",
            params=tuple(follower.params),
            headers=follower.headers,
            timeout=_STREAM_TIMEOUT,
        )

    def _do(self, command: Command[Result]) -> Result:
        return command.result_of(self._http.send(_request(self._http, command)))


class AsyncClient:
    """As `Client`, for asyncio: every call is awaited, `scan` and `watch` by `async for`."""

    def __init__(
        self,
        nodes: Iterable[str],
        options: Options = DEFAULTS,
        *,
        api_key: str = "",
        auth: tuple[str, str] | httpx.Auth | None = None,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._transport = AsyncClusterTransport(nodes, options, inner)
        self._http = httpx.AsyncClient(
            transport=self._transport,
            base_url=_BASE_URL,
            auth=auth,
            headers=_headers(api_key),
            timeout=_TIMEOUT,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    @property
    def http(self) -> httpx.AsyncClient:
        """For all that has no method here: requests go to the cluster, by path."""
        return self._http

    @property
    def position(self) -> str:
        """Of the newest write, for `see` of another client; empty before the first."""
        return self._transport.position

    def see(self, position: str) -> None:
        """Have reads from now on see what was written at `position`, by whomever.

        Raises:
            ValueError: it is no position.
        """
        self._transport.see(position)

    async def get(self, key: str) -> str | None:
        """As `Client.get`."""
        found = await self.get_value(key)
        return None if found is None else found.text

    async def get_value(self, key: str) -> Value | None:
        """As `Client.get_value`."""
        return await self._do(commands.get(key))

    async def set(
        self,
        key: str,
        value: Json,
        *,
        ttl: int | None = None,
        nx: bool = False,
        xx: bool = False,
        if_version: str | None = None,
    ) -> bool:
        """As `Client.set`."""
        command = commands.set_(key, value, ttl=ttl, nx=nx, xx=xx, if_version=if_version)
        return await self._do(command)

    async def set_bytes(
        self,
        key: str,
        data: bytes,
        *,
        ttl: int | None = None,
        nx: bool = False,
        if_version: str | None = None,
    ) -> str | None:
        """As `Client.set_bytes`."""
        return await self._do(commands.set_bytes(key, data, ttl=ttl, nx=nx, if_version=if_version))

    async def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """As `Client.delete`."""
        return await self._do(commands.delete(key, if_version=if_version))

    async def mget(self, keys: Iterable[str]) -> list[str | None]:
        """As `Client.mget`."""
        return await self._do(commands.mget(keys))

    async def mset(self, pairs: Mapping[str, Json], *, ttl: int | None = None) -> None:
        """As `Client.mset`."""
        await self._do(commands.mset(pairs, ttl=ttl))

    async def incr(self, key: str, amount: int = 1) -> int:
        """As `Client.incr`."""
        return await self._do(commands.incr(key, amount))

    async def scan(
        self, prefix: str = "", *, pattern: str = "", page_size: int = 1000
    ) -> AsyncIterator[str]:
        """As `Client.scan`."""
        cursor = ""
        while True:
            page = await self._do(commands.scan(prefix, pattern, cursor, page_size))
            for key in page.keys:
                yield key
            cursor = page.cursor
            if not cursor:
                return

    async def txn(
        self,
        conditions: Iterable[Mapping[str, Any]] = (),
        *,
        then: Iterable[Mapping[str, Any]] = (),
        otherwise: Iterable[Mapping[str, Any]] = (),
    ) -> TxnResult:
        """As `Client.txn`."""
        return await self._do(commands.txn(conditions, then, otherwise))

    async def watch(
        self, watched: Watched | None = None, *, start: str = "", initial: bool = False
    ) -> AsyncGenerator[Event, None]:
        """As `Client.watch`. Close it by `contextlib.aclosing` where you leave it early."""
        follower = Follower(watched or Watched(), start, has_initial=initial)
        while True:
            begun = follower.begin()
            if begun is not None:
                yield begun
            with suppress(*_CUT):
                async with self._stream(follower) as response:
                    if response.status_code >= 400:
                        await response.aread()
                        raise refusal_of(response)
                    async for line in response.aiter_lines():
                        event = follower.line(line)
                        if event is not None:
                            yield event
                        if follower.is_over:
                            break
            await asyncio.sleep(follower.cut(random.random()))

    def _stream(self, follower: Follower) -> Any:
        return self._http.stream(
            "GET",
            "/watch",
            params=tuple(follower.params),
            headers=follower.headers,
            timeout=_STREAM_TIMEOUT,
        )

    async def _do(self, command: Command[Result]) -> Result:
        return command.result_of(await self._http.send(_request(self._http, command)))


def _headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _request(client: httpx.Client | httpx.AsyncClient, command: Command[Any]) -> httpx.Request:
    return client.build_request(
        command.method,
        command.path,
        params=list(command.params) or None,
        content=command.body or None,
        headers=dict(command.headers),
    )
