"""The short way: requests that a node mostly gets, from their bytes to their answer's.

A request for a hot route (`hot_routes`) goes past the parser, ASGI and Falcon where nothing about
it is special: its head is made of harmless lines (`head_lines`, `headers`), its body is without a
fault, and whoever asks may. All else goes the way of every request. Both ways call the same
operations, so that what an answer holds is said once; this module recognises, frames, counts and
times. Tests hold both ways against each other, and a node answers the same with this taken out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson

from synap.auth.permissions import TRUSTED
from synap.commands.commands import Command
from synap.commands.records import MAX_KEY_BYTES, Record
from synap.errors import SynapError
from synap.http.api.errors import log_failure
from synap.http.api.etags import Tags, parse_tags
from synap.http.api.headers import IF_NONE_MATCH, MIN_POSITION, REQUEST_ID
from synap.http.api.hot_routes import HotRoute, ReadRoute, WriteRoute, kinds_of
from synap.http.api.operations.table import KV_WORDS
from synap.http.api.request import request_id_of
from synap.http.api.request_observer import Observer
from synap.http.api.resource import parse_position
from synap.http.api.routing import KeyConverter
from synap.http.server.framing import (
    BLANK_LINE,
    JSON_TYPE_LINE,
    LINE_END,
    header_lines,
    text_head,
)
from synap.http.server.head_lines import VERSION, HeadLines, Names
from synap.ipc.writer_client import Done
from synap.place import NO_REIGNS, LogEnd
from synap.request_errors import KeyInvalid
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

# What a key may have that stands for itself in a path: no blank, `#`, `%`, `/` or `?`.
_PLAIN_KEY_BYTES = bytes(code for code in range(0x21, 0x7F) if code not in b"#%/?")
_NOTHING_ASKED: Mapping[bytes, bytes] = {}

_now_ns = time.perf_counter_ns
_to_key = KeyConverter().convert
_KV_WORDS = frozenset(word.encode() for word in KV_WORDS)


class Reply(Protocol):
    """The place of an answer that comes later, on the connection that waits for it."""

    def send(self, head: bytes, body: bytes) -> None:
        """Send the whole answer; one to a client that is gone is dropped.

        Args:
            head: Status line and headers, each with its line end; without Date and Connection.
            body: As long as the head says.
        """


class Client(Protocol):
    """What the short way needs of a connection that has no other request.

    Attributes:
        peer: Address of the other end; empty where it has none.
    """

    peer: str

    def answer(self, head: bytes, body: bytes) -> None:
        """Send a whole answer now; see `Reply.send`."""

    def defer(self) -> Reply:
        """Keep the place of an answer; until it is sent, the next request waits."""

    def hold(self, data: bytes, missing_bytes: int) -> None:
        """Keep a request until the rest of its body is there, and offer it again then."""


class FastPath:
    """The short way through one worker. Belongs to the loop that its parts were started on."""

    def __init__(
        self,
        node: LocalNode,
        api: NodeApi,
        observer: Observer,
        names: Names,
        routes: Iterable[HotRoute],
        *,
        answers_vary: bool,
    ) -> None:
        """
        Args:
            names: What is to be made of headers.
            routes: Those that are served.
            answers_vary: Whether answers differ by Origin.
        """
        self._heads = HeadLines(names)
        self._by_tail = self._heads.by_tail
        self._node = node
        self._api = api
        self._observer = observer
        # By the request line without its version, as far as it is always the same: the whole, what
        # is before a key at the end, what is before and after a key.
        self._whole: dict[bytes, HotRoute] = {}
        self._before_key: dict[bytes, HotRoute] = {}
        self._around_key: dict[tuple[bytes, bytes], HotRoute] = {}
        for route in routes:
            # Where reads wait for replicas, none is answered at once.
            if api.reads_held and not route.is_write:
                continue
            route.kinds = kinds_of(route.lengths, route.types, has_credentials=False)
            self._add(route)
        self._is_paused = False
        # The state that was read last, its lines, and what prints its versions.
        self._end: LogEnd | None = None
        self._place_lines = ""
        self._token = NO_REIGNS.token
        self._vary = f"vary: Origin{LINE_END}" if answers_vary else ""

    def _add(self, route: HotRoute) -> None:
        before, has_key, after = route.name.encode().partition(b"/{key}")
        if after:
            self._around_key[before, after[1:]] = route
        elif has_key:
            self._before_key[before] = route
        else:
            self._whole[before] = route

    def pause(self, is_paused: bool) -> None:
        """Take nothing, or take again."""
        self._is_paused = is_paused

    def take(self, data: bytes, client: Client) -> bool:
        """Answer a read that is one whole request, or see to it that it will be.

        Args:
            data: What was read, between two requests.
            client: The connection that it came on.

        Returns:
            False where it is none for the short way; nothing has happened then.
        """
        began_ns = _now_ns()
        start = data.find(VERSION)
        end = data.find(BLANK_LINE, start) + len(BLANK_LINE)
        if start < 0 or end < start or self._is_paused:
            return False
        line = data[:start]
        key = b""
        route = self._whole.get(line)
        if route is None:
            before, _, key = line.rpartition(b"/")
            route = self._before_key.get(before)
            if route is None:
                before, _, segment = before.rpartition(b"/")
                route = self._around_key.get((before, key))
                if route is None:
                    return False
                key = segment
            if key.translate(None, _PLAIN_KEY_BYTES) or not 0 < len(key) <= MAX_KEY_BYTES:
                key = _decoded(key)
                if not key:
                    return False
            if route.has_words and key in _KV_WORDS:
                return False
        tail = data[start:end]
        head = self._by_tail.get(tail)
        asked = _NOTHING_ASKED
        if head is None:
            head, asked = self._heads.read(tail), self._heads.asked
        kind, body_bytes = head
        if kind not in route.kinds:
            return False
        missing_bytes = end + body_bytes - len(data)
        if missing_bytes or (body_bytes and not route.takes_body):
            if missing_bytes > 0 and route.takes_body:
                client.hold(data, missing_bytes)
                return True
            return False
        try:
            body = route.decode(data[end:])
            if route.is_write:
                return self._write(route, line, key, body, asked, client, began_ns)  # type: ignore[arg-type]
            return self._read(route, line, key, body, asked, client, began_ns)  # type: ignore[arg-type]
        except SynapError:
            # What is wrong with it, the way of all says.
            return False

    def _read(
        self,
        route: ReadRoute,
        line: bytes,
        key: bytes,
        body: Any,
        asked: Mapping[bytes, bytes],
        client: Client,
        began_ns: int,
    ) -> bool:
        unwanted = None
        if asked:
            if MIN_POSITION in asked and not (route.waits and self._is_reached(asked)):
                return False
            if IF_NONE_MATCH in asked:
                if not route.has_etag:
                    return False
                unwanted = parse_tags(asked[IF_NONE_MATCH], "if-none-match")
        found_end = route.look(self._api, TRUSTED, key, body)
        if found_end is None:
            return False
        # From here on it has happened, and is answered.
        found, end = found_end
        if end is not self._end:
            self._see(end)
        lines, type_lines, status = self._place_lines, route.type_lines, 200
        if self._node.is_replica:
            lines += f"x-synap-lag-ms: {self._node.lag_ms()}{LINE_END}"
        if route.has_etag and found is not None:
            lines = f'etag: "{self._token(found.version)}"{LINE_END}{lines}'
            if unwanted is not None and self._names(unwanted, found, end):
                status = 304
        data = b""
        if status == 200:
            try:
                shown = route.show(key, body, found)
            except SynapError as error:
                shown = error
            if isinstance(shown, SynapError):
                answer = route.refuse(shown, body)
                status, data, type_lines = answer.status, answer.body, JSON_TYPE_LINE
                lines += header_lines(answer.headers)
            else:
                data = route.encode(shown)
        request_id = self._note(route, line, asked, client, began_ns, status)
        lines = f"{lines}{self._vary}x-request-id: {request_id}{LINE_END}"
        client.answer(text_head(status, lines, type_lines, len(data)), data)
        return True

    def _is_reached(self, asked: Mapping[bytes, bytes]) -> bool:
        """Say whether the store has what the request wants it to have, as far as it wants any."""
        position = asked.get(MIN_POSITION)
        return position is None or self._node.has_reached(parse_position(position))

    def _names(self, tags: Tags, record: Record, end: LogEnd) -> bool:
        """Say whether the client has this version already."""
        return tags.holds_weak(self._node.reigns(end.history).place(record.version))

    def _see(self, end: LogEnd) -> None:
        """Make the lines that say which state was read."""
        reigns = self._node.reigns(end.history)
        # A lineage that can't be known yet is asked for again.
        self._end = end if reigns.history == end.history else None
        self._token = reigns.token
        self._place_lines = (
            f"x-synap-offset: {end.offset}{LINE_END}"
            f"x-synap-position: {reigns.token(end.offset)}{LINE_END}"
        )

    def _write(
        self,
        route: WriteRoute,
        line: bytes,
        key: bytes,
        body: Any,
        asked: Mapping[bytes, bytes],
        client: Client,
        began_ns: int,
    ) -> bool:
        if asked and (IF_NONE_MATCH in asked or not self._is_reached(asked)):
            return False
        command = route.prepare(key, body)
        pending = PendingWrite(self, route, line, key, body, command, asked, client, began_ns)
        self._api.submit(TRUSTED, command, pending)
        pending.reply = client.defer()
        return True

    def answer_write(self, pending: PendingWrite, done: Done) -> None:
        """Answer a write that the log's owner carried out."""
        self._api.count(pending.command, done.result)
        route = pending.route
        reigns = self._node.reigns(done.history)
        try:
            more, shown = route.finish(pending.key, pending.body, done.result, reigns)
        except SynapError as error:
            self.answer_error(pending, error)
            return
        data = orjson.dumps(shown)
        request_id = self._note_write(pending, 200)
        lines = (
            f"{more}{self._vary}x-synap-offset: {done.offset}{LINE_END}"
            f"x-synap-position: {reigns.token(done.offset)}{LINE_END}"
            f"x-request-id: {request_id}{LINE_END}"
        )
        pending.reply.send(text_head(200, lines, JSON_TYPE_LINE, len(data)), data)

    def answer_error(self, pending: PendingWrite, error: SynapError) -> None:
        """Answer a write that the log's owner refused, or of which nothing is known."""
        route = pending.route
        answer = route.refuse(error, pending.body, self._node)
        request_id = self._note_write(pending, answer.status)
        if answer.status == 500:
            log_failure(route.template, route.method, request_id, error)
        lines = self._vary + header_lines((*answer.headers, ("x-request-id", request_id)))
        head = text_head(answer.status, lines, JSON_TYPE_LINE, len(answer.body))
        pending.reply.send(head, answer.body)

    def _note_write(self, pending: PendingWrite, status: int) -> str:
        return self._note(
            pending.route, pending.line, pending.asked, pending.client, pending.began_ns, status
        )

    def _note(
        self,
        route: HotRoute,
        line: bytes,
        asked: Mapping[bytes, bytes],
        client: Client,
        began_ns: int,
        status: int,
    ) -> str:
        """Note a request whose answer is made; return its id."""
        elapsed_ns = _now_ns() - began_ns
        request_id = request_id_of(asked.get(REQUEST_ID), began_ns)
        observer = self._observer
        if observer.count(route.template, route.method, status, elapsed_ns):
            observer.note_slow(route.name, _target(line), status, request_id, elapsed_ns)
        if observer.access_log is not None:
            observer.access_log.note(
                client.peer, route.method, _target(line), status, elapsed_ns, request_id
            )
        return request_id


class PendingWrite:
    """A write on its way through the log's owner; takes the outcome as a future would.

    Attributes:
        reply: The place of its answer.
        route: What it is.
        line: Its request line, without the version.
        key: That of its path; b"" where there is none.
        body: What was asked for.
        command: What it comes to.
        asked: Headers that ask for something.
        client: The connection that it came on.
        began_ns: When it was taken up, by `time.perf_counter_ns`.
    """

    __slots__ = (
        "_fast_path", "asked", "began_ns", "body", "client", "command", "key", "line", "reply",
        "route",
    )  # fmt: skip

    reply: Reply

    def __init__(
        self,
        fast_path: FastPath,
        route: WriteRoute,
        line: bytes,
        key: bytes,
        body: Any,
        command: Command,
        asked: Mapping[bytes, bytes],
        client: Client,
        began_ns: int,
    ) -> None:
        self._fast_path = fast_path
        self.route = route
        self.line = line
        self.key = key
        self.body = body
        self.command = command
        self.asked = asked
        self.client = client
        self.began_ns = began_ns

    def done(self) -> bool:
        """Return False: nobody takes a write back that is on its way."""
        return False

    def set_result(self, done: Done) -> None:
        """Take what the log's owner did."""
        self._fast_path.answer_write(self, done)

    def set_exception(self, error: SynapError) -> None:
        """Take why it did not."""
        self._fast_path.answer_error(self, error)


def _decoded(segment: bytes) -> bytes:
    """Return the key that a percent-encoded segment of a path names; b"" for none or an odd one."""
    if segment.translate(None, _PLAIN_KEY_BYTES).strip(b"%"):
        return b""
    try:
        return _to_key(segment.decode())
    except KeyInvalid:
        return b""


def _target(line: bytes) -> str:
    return line.partition(b" ")[2].decode()
