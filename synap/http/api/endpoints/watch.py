"""`GET /watch`: every change of the keys that a client names, in order, without a gap.

As Server-Sent Events or as lines of JSON it is a stream without an end; else one long poll.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from falcon.asgi import Response

from synap.auth.permissions import Caller
from synap.commands.key_spans import common
from synap.commands.records import MAX_KEY_BYTES, check_key
from synap.errors import NotCaughtUp, ReadRefused
from synap.http.api.client_address import client_address
from synap.http.api.credentials import Credentials
from synap.http.api.cross_site import SiteGuard
from synap.http.api.feed_stream import FeedStream
from synap.http.api.headers import ACCEPT, LAST_EVENT_ID, HeaderName
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param, text_param
from synap.http.api.trusted_proxies import TrustedProxies
from synap.http.server.framing import FEED
from synap.place import Place, parse_place
from synap.request_errors import AccessRefused, InvalidRequest
from synap.service.feed.live_watch import LiveWatch
from synap.service.feed.poll import Poll
from synap.service.feed.watch import FeedClosed, Start
from synap.service.feed.watching import Watching
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.watch.filters import Filter, filter_of
from synap.watch.forms import Form

LINES = "application/x-ndjson"
EVENTS = "text/event-stream"
_MAX_PARTS = 100
_MAX_WAIT_SECONDS = 300
_DEFAULT_WAIT_SECONDS = 30
_MAX_LIMIT = 10_000
_DEFAULT_LIMIT = 500
_MAX_REPLICAS = 256
_STREAM_PARAMETERS = ("wait", "limit")


def add_routes(
    app: App,
    node: LocalNode,
    api: NodeApi,
    watching: Watching,
    sites: SiteGuard,
    credentials: Credentials,
    proxies: TrustedProxies,
) -> None:
    """Add the endpoint."""
    app.add_route("/watch", Feed(node, api, watching, sites, credentials, proxies))


class Feed(Resource):
    """The change feed."""

    def __init__(
        self,
        node: LocalNode,
        api: NodeApi,
        watching: Watching,
        sites: SiteGuard,
        credentials: Credentials,
        proxies: TrustedProxies,
    ) -> None:
        super().__init__(node, api)
        self._watching = watching
        self._sites = sites
        self._credentials = credentials
        self._proxies = proxies

    async def on_get(self, req: Request, resp: Response) -> None:
        self._sites.check_stream(req)
        req.caller.require_something()
        await self.await_applied(req)
        form, wanted, start = _form_of(req), _filter_of(req), _start_of(req)
        is_inline = _choice(req, "values", ("inline", "none")) != "none"
        replicas = max(self.min_replicas(req), _number(req, "min_replicas", 0, _MAX_REPLICAS))
        if self._api.reads_held and self._node.view.role == "master":
            replicas = max(replicas, self._node.config.replication.min_replicas_to_write)
        if form is Form.LIST:
            wait = _number(req, "wait", _DEFAULT_WAIT_SECONDS, _MAX_WAIT_SECONDS)
            limit = _number(req, "limit", _DEFAULT_LIMIT, _MAX_LIMIT, lowest=1)
            if start.has_initial:
                raise InvalidRequest("include=initial goes with a stream: ask for one by Accept")
        elif any(name in req.params for name in _STREAM_PARAMETERS):
            raise InvalidRequest("parameters 'wait' and 'limit' go with a long poll, not a stream")
        resp.set_header("Cache-Control", "no-store")
        resp.content_type = {Form.LINES: LINES, Form.EVENTS: EVENTS}.get(form, resp.content_type)
        if req.method == "HEAD":
            return
        watching = self._watching
        manner = watching.manner(form, is_inline=is_inline)
        about = (req.caller, wanted, manner, start.place, replicas)
        if form is Form.LIST:
            recheck = self._recheck_of(req)
            poll = watching.join(Poll, *about, holder=req.holder)
            begin = poll.token
            try:
                resp.data = await _poll(poll, wait, limit, self._api.max_answer_bytes)
            finally:
                watching.leave(poll)
            if recheck is not None and not await recheck():
                # The next one is told why, or gets what is allowed by then.
                resp.data = _listed([], begin, has_more=False)
            return
        # Proxies that keep answers back until they are whole would keep these for ever.
        resp.set_header("X-Accel-Buffering", "no")
        watch = watching.join(LiveWatch, *about, holder=req.holder)
        spans = common(req.caller.readable, wanted.spans()) if start.has_initial else None
        watch.prepare(self._recheck_of(req), spans)
        if FEED in req.scope.get("extensions", ()):
            # For this application's own way to answer: see `falcon_app`.
            resp.stream = watch  # type: ignore[assignment]
        else:
            resp.stream = FeedStream(watch, req._receive)

    def _recheck_of(self, req: Request) -> _Recheck | None:
        """Return what says whether the request's credentials still allow what they did."""
        if not self._node.config.auth.enabled:
            return None
        address = client_address(req.scope, req.raw_headers, self._proxies)
        return _Recheck(self._node, self._credentials, req.raw_headers, req.caller, address)


class _Recheck:
    """What a request's credentials allowed, to be looked at again."""

    __slots__ = ("_address", "_caller", "_credentials", "_headers", "_node", "_version")

    def __init__(
        self,
        node: LocalNode,
        credentials: Credentials,
        headers: Mapping[HeaderName, bytes],
        caller: Caller,
        address: str,
    ) -> None:
        self._node = node
        self._credentials = credentials
        self._headers = headers
        self._caller = caller
        self._address = address
        self._version = node.accounts.cells[0]

    def is_settled(self) -> bool:
        """Say whether no account was changed; a key may have come to its end all the same."""
        return bool(self._node.accounts.cells[0] == self._version and not self._caller.id)

    async def __call__(self) -> bool:
        """Say whether the credentials still allow the same."""
        seen = self._node.accounts.cells[0]
        if self.is_settled():
            return True
        try:
            found = await self._credentials.caller_of(self._headers, self._address)
        except ReadRefused:
            # Nobody can be asked for now; at the next beat, then.
            return True
        except AccessRefused as error:
            return error.retryable
        if found is None or _rights(found) != _rights(self._caller):
            # With other rights it gets other keys, from a beginning of its own.
            return False
        self._version = seen
        return True


def _rights(caller: Caller) -> tuple[object, ...]:
    within = caller.within
    return caller.name, caller.id, caller.permissions, within and _rights(within)


async def _poll(watch: Poll, wait: int, limit: int, max_bytes: int) -> bytes:
    """Return the answer of a long poll: what there is, or what comes first.

    Raises:
        FeedReset: the log does not go on from where the client was.
        NotCaughtUp: this node has not come as far.
    """
    deadline = time.monotonic() + wait
    events: list[bytes] = []
    size = 0
    try:
        while len(events) < limit and size < max_bytes:
            found = await watch.some(limit - len(events), deadline)
            events += found
            size += sum(map(len, found))
            if (events and not watch.has_more) or time.monotonic() >= deadline:
                break
    except FeedClosed:
        # It is told how far it is, and asks another node.
        pass
    if watch.at is not None and not events:
        raise NotCaughtUp(f"this node has not applied {watch.at}; try again, or ask the master")
    return _listed(events, watch.token, has_more=watch.has_more)


def _listed(events: Sequence[bytes], token: str, *, has_more: bool) -> bytes:
    more = b"true" if has_more else b"false"
    return b'{"events":[%b],"next":"%b","more":%b}' % (b",".join(events), token.encode(), more)


def _form_of(req: Request) -> Form:
    accepted = req.raw_headers.get(ACCEPT, b"").decode("latin-1").lower()
    for media_type, form in ((EVENTS, Form.EVENTS), (LINES, Form.LINES)):
        if media_type in accepted:
            return form
    return Form.LIST


def _filter_of(req: Request) -> Filter:
    keys, prefixes, patterns = (_texts(req, name) for name in ("key", "prefix", "pattern"))
    if len(keys) + len(prefixes) + len(patterns) > _MAX_PARTS:
        raise InvalidRequest(f"more than {_MAX_PARTS} keys, prefixes and patterns")
    for key in keys:
        check_key(key)
    for text in (*prefixes, *patterns):
        if len(text) > MAX_KEY_BYTES:
            raise InvalidRequest(f"a prefix or a pattern is over {MAX_KEY_BYTES} bytes")
    return filter_of(keys, prefixes, patterns)


def _texts(req: Request, name: str) -> Sequence[bytes]:
    given = req.params.get(name, ())
    return [text.encode() for text in ((given,) if isinstance(given, str) else given)]


def _start_of(req: Request) -> Start:
    """Return where to begin; what a browser says that it has had wins over the address."""
    last = req.raw_headers.get(LAST_EVENT_ID)
    if last:
        return Start(_place_of(last.decode("latin-1"), "header Last-Event-ID"))
    text = text_param(req, "from")
    has_initial = _choice(req, "include", ("initial",)) == "initial"
    if text is None:
        return Start(None, has_initial)
    if has_initial:
        raise InvalidRequest("include=initial begins with the keys as they are now: without 'from'")
    return Start(_place_of(text, "parameter 'from'"))


def _place_of(text: str, name: str) -> Place:
    try:
        return parse_place(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} is {error}") from error


def _choice(req: Request, name: str, allowed: Sequence[str]) -> str | None:
    text = text_param(req, name)
    if text is not None and text not in allowed:
        raise InvalidRequest(f"parameter '{name}' is none of {', '.join(allowed)}")
    return text


def _number(req: Request, name: str, default: int, highest: int, *, lowest: int = 0) -> int:
    number = integer_param(req, name, default)
    if not lowest <= number <= highest:
        raise InvalidRequest(f"parameter '{name}' is not from {lowest} to {highest}")
    return number
