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

import msgspec
import orjson

from synap.auth.permissions import TRUSTED, Caller
from synap.commands.commands import Command
from synap.commands.keyspace import ABSENT
from synap.commands.records import MAX_KEY_BYTES, Record
from synap.errors import SynapError
from synap.http.api.access_log import Answered
from synap.http.api.errors import log_failure
from synap.http.api.etags import ASK_AGAIN, Tags, parse_tags
from synap.http.api.headers import FORWARDED_FOR, IF_NONE_MATCH, MIN_POSITION, REQUEST_ID
from synap.http.api.hot_routes import HotRoute, ReadRoute, WriteRoute, kinds_of
from synap.http.api.known_credentials import KnownCredentials
from synap.http.api.operations.table import KV_WORDS
from synap.http.api.rate_limits import RateLimits
from synap.http.api.request import ID_PREFIX, request_id_of
from synap.http.api.request_observer import Observer
from synap.http.api.resource import parse_position
from synap.http.api.routing import KeyConverter
from synap.http.api.traces import trace_in
from synap.http.server.framing import (
    BLANK_LINE,
    JSON_TYPE_LINE,
    header_lines,
    text_head,
)
from synap.http.server.head_lines import HeadLines, Names
from synap.ipc.writer_client import Done
from synap.place import NO_REIGNS, LogEnd, is_reached
from synap.request_errors import KeyInvalid
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

# What a key may have that stands for itself in a path: no blank, `#`, `%`, `/` or `?`.
_PLAIN_KEY_BYTES = bytes(code for code in range(0x21, 0x7F) if code not in b"#%/?")
# Leaves these as they are, and a key that has no others the object that it was: a tenth of a
# microsecond less than to look for the others.
_CHANGE_ODD_BYTES = bytes(
    code if code in _PLAIN_KEY_BYTES else int(code == 0) for code in range(256)
)
_VERSION_BYTES = len(b" HTTP/1.1")
# Of POST and PUT.
_P = ord("P")
_ASK_AGAIN = header_lines((("Cache-Control", ASK_AGAIN),))
_NO_STORE = header_lines((("Cache-Control", "no-store"),))
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
        address: The same in the one form that addresses are compared in.
    """

    peer: str
    address: str

    def answer(self, head: bytes, body: bytes) -> None:
        """Send a whole answer now; see `Reply.send`."""

    def defer(self) -> Reply:
        """Keep the place of an answer; until it is sent, the next request waits."""

    def hold(self, data: bytes, missing_bytes: int) -> None:
        """Keep a request until the rest of its body is there, and offer it again then."""


Come = tuple[bytes, int, Mapping[bytes, bytes], Client, int]
"""How a request came: what was read; where its version begins; headers that ask for something; the
connection; when it was taken up, by `time.perf_counter_ns`."""


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
        known: KnownCredentials | None,
        limits: RateLimits | None,
        answers_vary: bool,
        trusted: Caller = TRUSTED,
    ) -> None:
        """
        Args:
            names: What is to be made of headers.
            routes: Those that are served.
            known: Credentials, one of which a request must have; None where nobody needs any.
            limits: Count requests; None where nobody does.
            answers_vary: Whether answers differ by Origin.
            trusted: Who asks where nobody needs credentials.
        """
        self._heads = HeadLines(names)
        self._by_tail = self._heads.by_tail
        self._node = node
        self._api = api
        self._observer = observer
        self._known = known
        self._trusted = trusted
        self._limits = limits
        # By the request line without its version, as far as it is always the same: the whole, what
        # is before a key at the end, what is before and after a key.
        self._whole: dict[bytes, HotRoute] = {}
        self._before_key: dict[bytes, HotRoute] = {}
        self._around_key: dict[tuple[bytes, bytes], HotRoute] = {}
        for route in routes:
            # Where reads wait for replicas, none is answered at once.
            if api.reads_held and not route.is_write:
                continue
            route.kinds = kinds_of(route.lengths, route.types, has_credentials=known is not None)
            self._add(route)
        self._is_paused = False
        # The state that was read last, its lines, and what prints its versions.
        self._end: LogEnd | None = None
        self._place_lines = ""
        self._token = NO_REIGNS.token
        self._first_offset, self._suffix = NO_REIGNS.first_offset, NO_REIGNS.suffix
        # The position that was asked for last, as it was sent.
        self._wanted, self._wanted_place = b"", ABSENT
        # The lineage that wrote last.
        self._writing = NO_REIGNS
        self._vary = "vary: Origin\r\n" if answers_vary else ""
        # Of every answer to a write.
        self._written = _NO_STORE + self._vary

    def _add(self, route: HotRoute) -> None:
        before, has_key, after = route.name.encode().partition(b"/{key}")
        if after:
            self._around_key[before, after[1:]] = route
        elif has_key:
            self._before_key[before] = route
        else:
            assert before[0] == _P
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
        # The line ends with the version, which a head that is known begins with.
        start = data.find(b"\r") - _VERSION_BYTES
        if start < 0 or self._is_paused:
            return False
        key = b""
        # Most writes are for a route without a key, and no read is.
        route = self._whole.get(data[:start]) if data[0] == _P else None
        if route is None:
            slash = data.rfind(b"/", 0, start)
            route = self._before_key.get(data[:slash])
            if route is not None:
                key = data[slash + 1 : start]
                if key.translate(_CHANGE_ODD_BYTES) is not key:
                    key = _key_of(key)
                if not key:
                    return False
            else:
                found = self._around(data[:slash], data[slash + 1 : start])
                if found is None:
                    return False
                route, key = found
        # Where there is no body, all that follows is the head, or more than one request.
        end = data.find(BLANK_LINE, start) + len(BLANK_LINE) if route.takes_body else len(data)
        tail = data[start:end]
        head = self._by_tail.get(tail)
        asked = _NOTHING_ASKED
        if head is None:
            head, asked = self._heads.read(tail), self._heads.asked
        kind, body_bytes = head
        if kind not in route.kinds:
            return False
        come = data, start, asked, client, began_ns
        if body_bytes or route.takes_body:
            missing_bytes = end + body_bytes - len(data)
            if missing_bytes < 0 or not route.takes_body:
                return False
            if missing_bytes:
                if self._known is not None:
                    # Whether it may come at all, whoever asks, is seen before it is read.
                    return False
                client.hold(data, missing_bytes)
                return True
        try:
            if self._limits is not None:
                return self._serve_counted(self._limits, route, key, data[end:], come)
            if route.is_plain_read:
                return self._read(route, key, route.body, come, "")  # type: ignore[arg-type]
            if route.is_plain_write:
                body = route.decode(data[end:])
                return self._write(route, key, body, come, "")  # type: ignore[arg-type]
            return self._serve(route, key, data[end:], come, "")
        except SynapError:
            # What is wrong with it, the way of all says.
            return False

    def _around(self, before: bytes, after: bytes) -> tuple[HotRoute, bytes] | None:
        """Return the route whose key has something after it, and the key."""
        before, _, segment = before.rpartition(b"/")
        route, key = self._around_key.get((before, after)), _key_of(segment)
        if route is None or not key or (route.has_words and key in _KV_WORDS):
            return None
        return route, key

    def _serve_counted(
        self, limits: RateLimits, route: HotRoute, key: bytes, text: bytes, come: Come
    ) -> bool:
        """Serve a request that counts for its client."""
        _, _, asked, client, _ = come
        forwarded_for = asked.get(FORWARDED_FOR, b"")
        lines = limits.take(client.address, forwarded_for)
        if lines is None:
            return False
        try:
            is_served = self._serve(route, key, text, come, lines)
        except SynapError:
            is_served = False
        if not is_served:
            limits.give_back(client.address, forwarded_for)
        return is_served

    def _serve(self, route: HotRoute, key: bytes, text: bytes, come: Come, lines: str) -> bool:
        """Carry a request out, and see to its answer.

        Args:
            lines: Of the answer's head, as far as it is made.

        Returns:
            False where it is for the long way.

        Raises:
            SynapError: the same, for it is at fault.
        """
        body = route.body
        if route.tells_routes:
            resolved = route.resolve(text)
            if resolved is None:
                return False
            route, body = resolved
        elif route.takes_body:
            body = route.decode(text)
        if route.is_write:
            return self._write(route, key, body, come, lines)  # type: ignore[arg-type]
        return self._read(route, key, body, come, lines)  # type: ignore[arg-type]

    def _read(self, route: ReadRoute, key: bytes, body: Any, come: Come, lines: str) -> bool:
        asked = come[2]
        unwanted = place = None
        if asked:
            if MIN_POSITION in asked:
                if not (route.waits and self._is_reached(asked)):
                    return False
                place = self._wanted_place
            if IF_NONE_MATCH in asked:
                if not route.has_etag:
                    return False
                unwanted = parse_tags(asked[IF_NONE_MATCH], "if-none-match")
        known = self._known
        caller = self._trusted if known is None else known.caller
        found_end = route.look(self._api, caller, key, body)
        if found_end is None:
            return False
        found, end = found_end
        if end is not self._end:
            if place is not None and not is_reached(place, end, self._node.reigns(end.history)):
                # What was there a moment ago is another log's now.
                return False
            self._see(end)
        # From here on it has happened, and is answered.
        if self._node.is_replica:
            lines += f"x-synap-lag-ms: {self._node.lag_ms()}\r\n"
        status, type_lines = 200, route.type_lines
        if route.has_etag and found is not None:
            version = found.version
            # The newest reign's, mostly.
            if version >= self._first_offset:
                lines = f'{lines}{_ASK_AGAIN}etag: "{version}{self._suffix}"\r\n'
            else:
                lines = f'{lines}{_ASK_AGAIN}etag: "{self._token(version)}"\r\n'
            if unwanted is not None and self._names(unwanted, found, end):
                status = 304
        else:
            lines += _NO_STORE
        text = b""
        if status == 200:
            try:
                shown = route.show(key, body, found)
            except SynapError as error:
                shown = error
            if isinstance(shown, SynapError):
                answer = route.refuse(shown, body)
                status, text, type_lines = answer.status, answer.body, JSON_TYPE_LINE
                lines += header_lines(answer.headers)
            else:
                text = route.encode(shown)
        request_id = self._note(route, come, status)
        head = text_head(status, lines, self._place_lines, request_id, type_lines, len(text))
        come[3].answer(head, text)
        return True

    def _is_reached(self, asked: Mapping[bytes, bytes]) -> bool:
        """Say whether the store has what the request wants it to have, as far as it wants any."""
        position = asked.get(MIN_POSITION)
        if position is None:
            return True
        if position != self._wanted:
            self._wanted_place, self._wanted = parse_position(position), position
        place, seen = self._wanted_place, self._end
        if seen is not None and is_reached(place, seen, self._node.reigns(seen.history)):
            return True
        return self._node.has_reached(place)

    def _names(self, tags: Tags, record: Record, end: LogEnd) -> bool:
        """Say whether the client has this version already."""
        return tags.holds_weak(self._node.reigns(end.history).place(record.version))

    def _see(self, end: LogEnd) -> None:
        """Make the lines that say which state was read."""
        reigns = self._node.reigns(end.history)
        # A lineage that can't be known yet is asked for again.
        self._end = end if reigns.history == end.history else None
        self._token = reigns.token
        self._first_offset, self._suffix = reigns.first_offset, reigns.suffix
        self._place_lines = (
            f"{self._vary}x-synap-offset: {end.offset}\r\n"
            f"x-synap-position: {reigns.token(end.offset)}\r\n"
        )

    def _write(self, route: WriteRoute, key: bytes, body: Any, come: Come, lines: str) -> bool:
        _, _, asked, client, _ = come
        if asked and (IF_NONE_MATCH in asked or not self._is_reached(asked)):
            return False
        command = route.prepare(key, body)
        pending = PendingWrite(self, route, key, body, command, come, lines)
        caller = self._trusted if self._known is None else self._known.caller
        if not self._api.submit(caller, command, pending):
            return False
        pending.reply = client.defer()
        return True

    def answer_write(self, pending: PendingWrite, done: Done) -> None:
        """Answer a write that the log's owner carried out."""
        self._api.count(pending.command, done.result)
        route, lines = pending.route, pending.lines
        if done.history is not self._writing.history:
            self._writing = self._node.reigns(done.history)
        reigns, offset = self._writing, done.offset
        try:
            if route.finish is None:
                shown = route.show(pending.key, pending.body, done.result)
            else:
                more, shown = route.finish(pending.key, pending.body, done.result, reigns)
                lines += more
        except SynapError as error:
            self.answer_error(pending, error)
            return
        text = str(offset)
        token = text + reigns.suffix if offset >= reigns.first_offset else reigns.token(offset)
        if route.version is not None:
            version = route.version(pending.body, done.result, offset)
            if version:
                assert isinstance(shown, dict), "a key's version is a field"
                shown["version"] = token if version == offset else reigns.token(version)
        data = orjson.dumps(shown)
        request_id = self._note(route, pending.come, 200)
        place_lines = f"{self._written}x-synap-offset: {text}\r\nx-synap-position: {token}\r\n"
        head = text_head(200, lines, place_lines, request_id, JSON_TYPE_LINE, len(data))
        pending.reply.send(head, data)

    def answer_error(self, pending: PendingWrite, error: SynapError) -> None:
        """Answer a write that the log's owner refused, or of which nothing is known."""
        route = pending.route
        answer = route.refuse(error, pending.body, self._node)
        request_id = self._note(route, pending.come, answer.status)
        if answer.status == 500:
            trace = trace_in(pending.come[0])
            log_failure(route.template, route.method, request_id, error, trace)
        lines = pending.lines + header_lines(answer.headers)
        head = text_head(
            answer.status, lines, self._written, request_id, JSON_TYPE_LINE, len(answer.body)
        )
        pending.reply.send(head, answer.body)

    def _note(self, route: HotRoute, come: Come, status: int) -> str:
        """Note a request whose answer is made; return its id."""
        data, start, asked, client, began_ns = come
        elapsed_ns = _now_ns() - began_ns
        if asked:
            request_id = request_id_of(asked.get(REQUEST_ID), began_ns)
        else:
            request_id = f"{ID_PREFIX}{began_ns:x}"
        observer = self._observer
        slot = route.slots.get(status)
        if slot is None:
            slot = observer.slot(route.template, route.method, status)
            route.slots[status] = slot
        if observer.add(slot, elapsed_ns):
            target, trace = _target(data[:start]), trace_in(data)
            observer.note_slow(route.name, target, status, request_id, elapsed_ns, trace)
        if observer.listener is not None:
            observer.listener.note(
                Answered(
                    client.peer, route.method, _target(data[:start]), route.path, status,
                    elapsed_ns, request_id, trace_in(data),
                )
            )  # fmt: skip
        return request_id


class _NoReply:
    """Stands for the place of an answer until there is one."""

    def send(self, head: bytes, body: bytes) -> None:
        """Send nothing: no outcome comes before `submit` has returned."""


_NO_REPLY = _NoReply()


class PendingWrite(msgspec.Struct, gc=False):
    """A write on its way through the log's owner; takes the outcome as a future would.

    Nothing that it names leads back to it, so that no collector need look at it.

    Attributes:
        fast_path: Answers it.
        route: What it is for.
        key: That of its path; b"" where there is none.
        body: What was asked for.
        command: What it comes to.
        come: How it came.
        lines: Of the answer's head, as far as it is made.
        reply: The place of its answer.
    """

    fast_path: FastPath
    route: WriteRoute
    key: bytes
    body: Any
    command: Command
    come: Come
    lines: str
    reply: Reply = _NO_REPLY

    def done(self) -> bool:
        """Return False: nobody takes a write back that is on its way."""
        return False

    def set_result(self, done: Done) -> None:
        """Take what the log's owner did."""
        self.fast_path.answer_write(self, done)

    def set_exception(self, error: SynapError) -> None:
        """Take why it did not."""
        self.fast_path.answer_error(self, error)


def _key_of(segment: bytes) -> bytes:
    """Return the key that a segment of a path names; b"" where the long way is to say."""
    odd_bytes = segment.translate(None, _PLAIN_KEY_BYTES)
    if not odd_bytes:
        return segment if len(segment) <= MAX_KEY_BYTES else b""
    try:
        return b"" if odd_bytes.strip(b"%") else _to_key(segment.decode())
    except KeyInvalid:
        return b""


def _target(line: bytes) -> str:
    return line.partition(b" ")[2].decode()
