"""The short way: the two requests that a node mostly gets, from their bytes to their answer's.

`GET /kv/get/{key}` and `POST /kv/set` go past Falcon where nothing about them is special: a head
that is known (`head_cache`), no middleware that would want to see them, a body without a fault.
All else goes the way of every request, which is also what defines the answers here: a test holds
both against each other, and a node answers the same with this taken out.

What is done here is done in `api` for both ways; this module frames, counts and times.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import orjson

from synap.auth.permissions import TRUSTED
from synap.commands.records import MAX_KEY_BYTES
from synap.commands.strings import Set
from synap.commands.values import readable
from synap.errors import SynapError
from synap.http.api import bodies
from synap.http.api.cross_site import SiteGuard
from synap.http.api.errors import error_answer, log_failure
from synap.http.api.operations.whole_keys import SET, SetBody
from synap.http.api.request import new_request_id
from synap.http.api.request_observer import Observer
from synap.http.api.routing import KeyConverter
from synap.http.server.framing import BLANK_LINE, LINE_END, Headers, header_lines, json_head
from synap.http.server.head_cache import VERSION, HeadCache
from synap.ipc.writer_client import Done
from synap.place import NO_REIGNS, LogEnd
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi, not_found, now_ms

if TYPE_CHECKING:
    from synap.config.keys import Config

_GET = b"GET /kv/get/"
# No request begins so.
_NEVER = b"\0"
_SET = b"POST /kv/set"
_GET_ROUTE = "/kv/get/{key:key}"
_SET_ROUTE = "/kv/set"
# What a key may have that stands for itself in a path: no blank, `#`, `%`, `/` or `?`.
_PLAIN_KEY_BYTES = bytes(code for code in range(0x21, 0x7F) if code not in b"#%/?")

# Headers that ask for what the short way does not do.
_SPECIAL_HEADERS = frozenset(
    {
        b"authorization", b"if-match", b"if-none-match", b"origin", b"x-api-key",
        b"sec-fetch-site", b"x-request-id", b"x-synap-min-offset", b"x-synap-min-position",
        b"x-synap-min-replicas",
    }
)  # fmt: skip
_JSON_TYPES = (None, b"application/json")

_now_ns = time.perf_counter_ns
_decode_set = bodies.decoder(SetBody)
_show_set = SET.show
_to_key = KeyConverter().convert


class Reply(Protocol):
    """The place of an answer that comes later, on the connection that waits for it."""

    def send(self, head: bytes, body: bytes) -> None:
        """Send the whole answer; one to a client that is gone is dropped.

        Args:
            head: Status line and headers, each with its line end; without Date and Connection.
            body: As long as the head says.
        """


class Client(Protocol):
    """What the short way needs of a connection that has no other request."""

    def answer(self, head: bytes, body: bytes) -> None:
        """Send a whole answer now; see `Reply.send`."""

    def defer(self) -> Reply:
        """Keep the place of an answer; until it is sent, the next request waits."""


class FastPath:
    """The short way through one worker. Belongs to the loop that its parts were started on.

    Attributes:
        heads: The heads that its connections know.
    """

    def __init__(self, node: LocalNode, api: NodeApi, observer: Observer, sites: SiteGuard) -> None:
        self.heads = HeadCache(
            lambda headers: takes(headers) and sites.serves(dict(headers).get(b"host"))
        )
        self._by_tail = self.heads.by_tail
        self._node = node
        self._api = api
        self._observer = observer
        # The state that was read last, its lines, and what prints its versions.
        self._end: LogEnd | None = None
        self._place_lines = ""
        self._token = NO_REIGNS.token
        # Where reads wait for replicas, none begins so.
        self._read_start = _NEVER if api.reads_held else _GET
        self._vary = f"vary: Origin{LINE_END}" if sites.answers_vary else ""

    def pause(self, is_paused: bool) -> None:
        """Take nothing, or take again."""
        self._by_tail = {} if is_paused else self.heads.by_tail

    def take(self, data: bytes, client: Client) -> bool:
        """Answer a read that is one whole request, or see to it that it will be.

        Args:
            data: What was read, between two requests.
            client: The connection that it came on.

        Returns:
            False where it is none for the short way; nothing has happened then.
        """
        if data.startswith(self._read_start):
            start = data.find(VERSION)
            head = self._by_tail.get(data[start:])
            if head is None or not head.is_hot or head.content_length:
                return False
            return self._get(data[len(_GET) : start], client)
        if data.startswith(_SET):
            end = data.find(BLANK_LINE) + len(BLANK_LINE)
            head = self._by_tail.get(data[len(_SET) : end])
            if head is None or not head.is_hot or len(data) - end != head.content_length:
                return False
            return self._set(data[end:], client)
        return False

    def _get(self, segment: bytes, client: Client) -> bool:
        began_ns = _now_ns()
        odd_bytes = segment.translate(None, _PLAIN_KEY_BYTES)
        try:
            if not odd_bytes and 0 < len(segment) <= MAX_KEY_BYTES:
                key = segment
            elif not odd_bytes.strip(b"%"):
                key = _to_key(segment.decode())
            else:
                return False
            record, end = self._api.get(TRUSTED, key)
        except SynapError:
            return False
        if end is not self._end:
            self._see(end)
        if record is not None:
            status, body = 200, orjson.dumps(readable(record.value))
            lines = f'etag: "{self._token(record.version)}"{LINE_END}{self._place_lines}'
        else:
            error = error_answer(not_found(key))
            status, body, lines = error.status, error.body, self._place_lines
        if self._node.is_replica:
            lines += f"x-synap-lag-ms: {self._node.lag_ms()}{LINE_END}"
        elapsed_ns = _now_ns() - began_ns
        request_id = new_request_id(began_ns)
        if self._observer.count(_GET_ROUTE, "GET", status, elapsed_ns):
            target = f"/kv/get/{segment.decode()}"
            self._observer.note_slow("GET /kv/get/{key}", target, status, request_id, elapsed_ns)
        lines = f"{lines}{self._vary}x-request-id: {request_id}{LINE_END}"
        client.answer(json_head(status, lines, len(body)), body)
        return True

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

    def _set(self, text: bytes, client: Client) -> bool:
        began_ns = _now_ns()
        try:
            body = _decode_set(text)
            pending = PendingSet(self, body, body.command(now_ms), began_ns)
            self._api.submit(TRUSTED, pending.command, pending)
        except SynapError:
            return False
        pending.reply = client.defer()
        return True

    def answer_set(self, pending: PendingSet, done: Done) -> None:
        """Answer a SET that the log's owner carried out."""
        self._api.count(pending.command, done.result)
        body = orjson.dumps(_show_set(b"", pending.body, done.result))
        request_id = self._observe_set(pending, 200)
        token = self._node.reigns(done.history).token(done.offset)
        lines = (
            f"{self._vary}x-synap-offset: {done.offset}{LINE_END}"
            f"x-synap-position: {token}{LINE_END}"
            f"x-request-id: {request_id}{LINE_END}"
        )
        pending.reply.send(json_head(200, lines, len(body)), body)

    def answer_error(self, pending: PendingSet, error: SynapError) -> None:
        """Answer a SET that the log's owner refused, or of which nothing is known."""
        answer = error_answer(error, self._node)
        request_id = self._observe_set(pending, answer.status)
        if answer.status == 500:
            log_failure(_SET_ROUTE, "POST", request_id, error)
        lines = self._vary + header_lines((*answer.headers, ("x-request-id", request_id)))
        pending.reply.send(json_head(answer.status, lines, len(answer.body)), answer.body)

    def _observe_set(self, pending: PendingSet, status: int) -> str:
        """Note a SET whose answer is made; return its request id."""
        request_id = new_request_id(pending.began_ns)
        elapsed_ns = _now_ns() - pending.began_ns
        if self._observer.count(_SET_ROUTE, "POST", status, elapsed_ns):
            self._observer.note_slow("POST /kv/set", "/kv/set", status, request_id, elapsed_ns)
        return request_id


class PendingSet:
    """A SET on its way through the log's owner; takes the outcome as a future would.

    Attributes:
        reply: The place of its answer.
        body: What was asked for.
        command: What it comes to.
        began_ns: When it was taken up, by `time.perf_counter_ns`.
    """

    __slots__ = ("_fast_path", "began_ns", "body", "command", "reply")

    reply: Reply

    def __init__(self, fast_path: FastPath, body: SetBody, command: Set, began_ns: int) -> None:
        self._fast_path = fast_path
        self.body = body
        self.command = command
        self.began_ns = began_ns

    def done(self) -> bool:
        """Return False: nobody takes a write back that is on its way."""
        return False

    def set_result(self, done: Done) -> None:
        """Take what the log's owner did."""
        self._fast_path.answer_set(self, done)

    def set_exception(self, error: SynapError) -> None:
        """Take why it did not."""
        self._fast_path.answer_error(self, error)


def is_possible(config: Config) -> bool:
    """Say whether a node has a short way: where nothing else is to see every request."""
    return not (config.auth.enabled or config.rate_limit.enabled or config.logging.access)


def takes(headers: Headers) -> bool:
    """Say whether the short way takes requests with these headers."""
    fields = dict(headers)
    return (
        len(fields) == len(headers)
        and fields.get(b"content-type") in _JSON_TYPES
        and _SPECIAL_HEADERS.isdisjoint(fields)
    )
