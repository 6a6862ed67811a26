"""The routes that the short way serves: which heads each takes, what it does, how it answers.

Nothing is decided here: a route is made of an operation, whose functions the long way calls too, or
of those of a raw value. Which operations are hot follows from what they are: those that look at
keys without a wait, and those that come to one command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from synap.commands.commands import Command
from synap.errors import SynapError
from synap.http.api.bodies import decoder
from synap.http.api.errors import ErrorAnswer, error_answer
from synap.http.api.operations.operation import Glance, LongRead, Look, Operation, VersionOf, Write
from synap.http.server.framing import JSON_TYPE_LINE
from synap.http.server.head_lines import (
    BODY_BITS,
    CREDENTIALS,
    HOST,
    JSON_TYPE,
    LENGTH,
    OTHER_TYPE,
)
from synap.place import Reigns
from synap.service.local_node import LocalNode

_TYPES = (0, JSON_TYPE, OTHER_TYPE)


def kinds_of(lengths: Iterable[int], types: Iterable[int], has_credentials: bool) -> frozenset[int]:
    """Return the kinds of head that a route takes; see `head_lines`.

    Args:
        lengths: 0 where there may be no Content-Length, LENGTH where there may be one.
        types: The same of content types.
    """
    always = HOST + (CREDENTIALS if has_credentials else 0)
    types = tuple(types)
    return frozenset((always + length + kind) >> BODY_BITS for length in lengths for kind in types)


Finish = Callable[[bytes, Any, Any, Reigns], tuple[str, object]]


class HotRoute:
    """A route of the short way.

    Attributes:
        method: In capitals.
        path: As clients know it, with `{key}` for its key.
        name: Both.
        template: The path as metrics know it.
        has_words: Whether some words in the key's place mean something else.
        lengths, types: See `kinds_of`.
        kinds: Of the heads that it takes.
        slots: Where it is counted, by the answer's status.
        is_write: Whether the log's owner carries it out.
        is_plain_read: Whether it is not, and there is no body.
        is_plain_write: Whether it is, and its body is what it is asked with.
        takes_body: Whether a request may have a body.
        tells_routes: Whether its body tells another route, by `resolve`.
        body: What the operation is asked with where there is none.
        decode: Makes the body's bytes what it is asked with, where there is one.
    """

    __slots__ = (
        "body", "decode", "has_words", "is_plain_read", "is_plain_write",
        "is_write", "kinds", "lengths", "method",
        "name", "path", "slots", "takes_body", "tells_routes", "template", "types",
    )  # fmt: skip

    def __init__(self, method: str, path: str, template: str = "") -> None:
        self.method = method
        self.path = path
        self.name = f"{method} {path}"
        self.template = template or path.replace("{key}", "{key:key}")
        self.has_words = "{key:kv_key}" in self.template
        self.lengths: tuple[int, ...] = (LENGTH,)
        self.types: tuple[int, ...] = _TYPES
        self.kinds: frozenset[int] = frozenset()
        self.slots: dict[int, int] = {}
        self.is_write = self.is_plain_read = self.is_plain_write = self.tells_routes = False
        self.takes_body = True
        self.body: Any = None
        self.decode: Callable[[bytes], Any] = bytes

    def without_body(self, body: Any) -> None:
        """Take no body, and stand for `body` then."""
        self.takes_body = False
        self.is_plain_read, self.is_plain_write = not self.is_write, False
        self.lengths = (0, LENGTH)
        self.body = body

    def resolve(self, text: bytes) -> tuple[HotRoute, Any] | None:
        """Return the route that a body tells, and what that is asked with.

        Returns:
            None where it is for the long way.

        Raises:
            SynapError: the body is at fault.
        """
        raise NotImplementedError

    def refuse(self, error: SynapError, body: Any, node: LocalNode | None = None) -> ErrorAnswer:
        """Return what a client gets for an error."""
        return error_answer(error, node)


class ReadRoute(HotRoute):
    """A route that reads.

    Attributes:
        look: Looks up what is asked for; None where that would take long.
        show: Makes the answer of key, body and what was found.
        encode: Makes the answer's bytes.
        type_lines: Says what they are.
        has_etag: Whether what was found is a record, whose version is told.
        waits: Whether a request may ask for a position to be reached.
    """

    __slots__ = ("encode", "has_etag", "look", "show", "type_lines", "waits")

    def __init__(
        self,
        method: str,
        path: str,
        look: Glance[Any, Any],
        show: Callable[[bytes, Any, Any], Any],
        template: str = "",
    ) -> None:
        super().__init__(method, path, template)
        self.look = look
        self.show = show
        self.encode: Callable[[Any], bytes] = orjson.dumps
        self.type_lines = JSON_TYPE_LINE
        self.has_etag = False
        self.waits = True


class WriteRoute(HotRoute):
    """A route that writes.

    Attributes:
        prepare: Makes the command.
        show: Makes the answer of key, body and the command's result.
        version: Tells the version that the key has then; see `operations.operation.Write`.
        finish: Makes more lines of the answer's head too, for which it is given the lineage; None
            where there are no more.
    """

    __slots__ = ("finish", "prepare", "show", "version")

    def __init__(
        self,
        method: str,
        path: str,
        prepare: Callable[[bytes, Any], Command],
        show: Callable[[bytes, Any, Any], object],
        template: str = "",
    ) -> None:
        super().__init__(method, path, template)
        self.is_write = self.is_plain_write = True
        self.prepare = prepare
        self.show = show
        self.version: VersionOf[Any] | None = None
        self.finish: Finish | None = None


def routes_of(operations: Iterable[Operation[Any, Any]]) -> list[HotRoute]:
    """Return the hot routes of operations."""
    made = (_route_of(each) for each in operations if each.route is not None)
    return [each for each in made if each is not None]


def _route_of(operation: Operation[Any, Any]) -> HotRoute | None:
    route = operation.route
    assert route is not None
    # Under /kv/ a key stands where a word may stand, too.
    field = "{key:kv_key}" if route.path.startswith("/kv/{key}/") else "{key:key}"
    template = route.path.replace("{key}", field)
    hot: HotRoute
    if isinstance(operation, Write):
        hot = writing = WriteRoute(
            route.method, route.path, operation.prepare, operation.show, template
        )
        writing.version = operation.version
    elif isinstance(operation, Look | LongRead) and operation.look is not None:
        hot = reading = ReadRoute(
            route.method, route.path, operation.look, operation.show, template
        )
        reading.has_etag, reading.waits = "ETag" in route.headers, route.kind == "read"
    else:
        return None
    if operation.takes_json:
        hot.types = (0, JSON_TYPE)
        hot.decode = operation.decode or decoder(operation.body)
    elif any(each.is_required for each in route.query):
        return None
    else:
        hot.without_body(operation.body())
    return hot
