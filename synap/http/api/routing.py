"""Paths to resources, with keys as they were sent.

Servers decode the path before the application sees it, so `%2F` inside a key would split it. This
router searches the raw path, and the converters decode each key alone. It also lets HEAD reach
every GET and answers each unknown method with 405 and `Allow`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote_to_bytes

from falcon.routing import BaseConverter, CompiledRouter

from synap.commands.records import check_key
from synap.http.api.operations.table import KV_WORDS
from synap.http.api.request import Request
from synap.request_errors import KeyInvalid

NO_PATH = "*"
"""What OPTIONS may ask for in the place of a path (RFC 9110, section 9.3.7)."""
_NO_PATH = NO_PATH.encode()
_Route = tuple[object, dict[str, Any], str]


class RawPathRouter(CompiledRouter):
    """Falcon's router on the undecoded path.

    Routes without a field, and those that end in their only field `{key:key}`, are found by one
    look into a dictionary from their second request on; Falcon's search is for the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.options.converters["key"] = KeyConverter
        self.options.converters["kv_key"] = KvKeyConverter
        self._to_key = KeyConverter().convert
        self._fixed: dict[bytes, _Route] = {}
        self._before_key: dict[bytes, _Route] = {}

    def find(self, uri: str, req: Request | None = None) -> Any:  # type: ignore[override]
        """Search for the route of a request; see falcon.routing.CompiledRouter.find."""
        raw_path: bytes | None = None if req is None else req.scope.get("raw_path")
        if req is None or raw_path is None:
            return super().find(quote(uri))
        if raw_path == _NO_PATH and req.method == "OPTIONS":
            # What the server as a whole can do: as far as anybody asks, whether it is there.
            raw_path = b"/"
        route = self._fixed.get(raw_path)
        if route is not None:
            return route[0], route[1], {}, route[2]
        before, _, segment = raw_path.rpartition(b"/")
        route = self._before_key.get(before)
        # Falcon drops slashes in front, and what else looks at the path does not.
        if raw_path.startswith(b"//"):
            return None
        # Latin-1 gives each byte that a sloppy client left unescaped a character of its own.
        if route is not None:
            return route[0], route[1], {"key": self._to_key(segment.decode("latin-1"))}, route[2]
        found = super().find(raw_path.decode("latin-1"))
        if found is not None:
            self._remember(raw_path, before, found)
        return found

    def _remember(self, raw_path: bytes, before: bytes, found: Any) -> None:
        """Find a route by one look from now on, where it can be found so."""
        resource, methods, _, template = found
        path, _, field = template.partition("/{")
        if not field and path.encode() == raw_path:
            self._fixed[raw_path] = resource, methods, template
        elif field == "key:key}" and path.encode() == before:
            self._before_key[before] = resource, methods, template

    def map_http_methods(self, resource: object, **kwargs: Any) -> Any:
        """Map methods to responders; HEAD goes where GET does."""
        methods = _Methods(super().map_http_methods(resource, **kwargs))
        if "GET" in methods:
            methods.setdefault("HEAD", methods["GET"])
        return methods


class _Methods(dict[str, Any]):
    """Responders by method. A method that HTTP does not know is as unknown as TRACE.

    No resource has TRACE, so that Falcon fills its place with the 405 that lists the others.
    """

    def __missing__(self, method: str) -> Any:
        if method == "TRACE":
            raise KeyError(method)
        return self["TRACE"]


class KeyConverter(BaseConverter):
    """A key as one percent-encoded segment of the path."""

    def convert(self, value: str) -> bytes:
        """Return the key's bytes.

        Raises:
            KeyInvalid: it is empty, too long, or not UTF-8.
        """
        if value.isascii() and "%" not in value:
            key = value.encode()
        else:
            key = unquote_to_bytes(value.encode("latin-1"))
            _check_utf8(key)
        check_key(key)
        return key


class KvKeyConverter(KeyConverter):
    """A key that stands where a fixed word may stand too; the word wins."""

    def convert(self, value: str) -> bytes | None:  # type: ignore[override]
        """Return the key's bytes, or None (no such route) for a fixed word."""
        key = super().convert(value)
        return None if key.decode() in KV_WORDS else key


def _check_utf8(key: bytes) -> None:
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise KeyInvalid("the key is not percent-encoded UTF-8") from error
