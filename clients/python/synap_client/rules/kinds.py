"""What a request is: who can answer it, and whether it may be sent again.

Source: docs/api.md of Synap.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

COMMAND_PATH = "/api/v1/command"

_DATA = {"kv", "raw", "key"}
_READ_ALONE = {"memory", "idempotency", "auth"}
_STREAMS = {"/kv/export", "/backup"}
_STREAMED_TYPES = ("text/event-stream", "application/x-ndjson")
_READING_COMMANDS = {
    "kv.get", "kv.exists", "kv.mget", "kv.scan", "kv.keys", "kv.dbsize", "kv.ttl", "kv.strlen",
    "kv.getrange", "kv.stats", "key.type", "key.exists", "key.randomkey", "memory.usage",
}  # fmt: skip
_NODE_COMMANDS = {
    "info", "slowlog.get", "slowlog.reset", "client.list", "admin.stats", "admin.config",
}  # fmt: skip
# Of a transaction, what lives in the memory of one node and takes no key.
_UNNAMED_COMMANDS = {
    "transaction.multi", "transaction.discard", "transaction.watch", "transaction.unwatch",
}  # fmt: skip
_QUEUED_COMMANDS = {"kv.set", "kv.del", "kv.incr", "kv.decr"}


class Way(Enum):
    """Who answers a request."""

    READ = auto()
    """Any node that has the data; a position says how new it must be."""
    WRITE = auto()
    """The master."""
    NODE = auto()
    """Any node, about itself or the cluster."""
    ONE_NODE = auto()
    """The node that is meant, and no other: not a matter for a cluster's client."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a request is.

    Attributes:
        way: Who answers it.
        takes_key: Whether `Idempotency-Key` has it take effect once.
        needs_master: Whether no replica can answer it.
        is_stream: Whether its answer is handed on as it comes.
        is_command: Whether its answer is the envelope of commands.
        is_of_keys: Whether it is about keys and values.
    """

    way: Way
    takes_key: bool = False
    needs_master: bool = False
    is_stream: bool = False
    is_command: bool = False
    is_of_keys: bool = False

    @property
    def is_read_of_data(self) -> bool:
        """Whether it reads keys, so that it may be a strong read."""
        return self.way is Way.READ and self.is_of_keys

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again, whatever became of it, without a key."""
        return self.way in (Way.READ, Way.NODE)


def kind_of(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Kind:
    """Say what a request is.

    Args:
        method: As it is sent.
        path: Without the query; percent-encoded or not.
        headers: By their names in small letters.
        body: The whole body.
    """
    place = path.strip("/").split("/")
    if path == COMMAND_PATH and method == "POST":
        return _kind_of_command(body, headers)
    if method in ("GET", "HEAD", "OPTIONS"):
        return _kind_of_reading(path, place[0], headers)
    if path == "/kv/mget":
        return Kind(Way.READ, needs_master=_is_the_masters(headers), is_of_keys=True)
    if path == "/auth/login":
        return Kind(Way.NODE)
    if place[0] in _DATA:
        return Kind(Way.WRITE, takes_key=True, needs_master=True)
    if place[0] == "auth":
        return Kind(Way.WRITE, needs_master=True)
    return Kind(Way.ONE_NODE)


def _kind_of_reading(path: str, first: str, headers: Mapping[str, str]) -> Kind:
    needs_master = _is_the_masters(headers)
    if first == "watch":
        is_stream = headers.get("accept", "").startswith(_STREAMED_TYPES)
        return Kind(Way.NODE, needs_master=needs_master, is_stream=is_stream)
    is_data = first in _DATA or first in _READ_ALONE
    way = Way.READ if is_data else Way.NODE
    return Kind(
        way, needs_master=needs_master, is_stream=path in _STREAMS, is_of_keys=first in _DATA
    )


def _is_the_masters(headers: Mapping[str, str]) -> bool:
    # What others hold, and that nobody else is the master, is known at the master alone.
    return headers.get("x-synap-min-replicas", "0") != "0" or "x-synap-consistency" in headers


def _kind_of_command(body: bytes, headers: Mapping[str, str]) -> Kind:
    try:
        asked = json.loads(body)
    except ValueError:
        return Kind(Way.NODE, is_command=True)
    fields = asked if isinstance(asked, dict) else {}
    listed = fields.get("commands") if fields.get("type") == "batch" else [fields]
    batch = listed if isinstance(listed, list) else []
    ways = [_way_of(command) for command in batch]
    if Way.WRITE not in ways:
        way = Way.READ if Way.READ in ways else Way.NODE
        needs_master = _is_the_masters(headers)
        return Kind(way, needs_master=needs_master, is_command=True, is_of_keys=True)
    takes_key = not any(_is_unnamed(command) for command in batch)
    return Kind(Way.WRITE, takes_key=takes_key, needs_master=True, is_command=True)


def _way_of(command: Any) -> Way:
    name = command.get("command") if isinstance(command, dict) else None
    if not isinstance(name, str) or name in _NODE_COMMANDS:
        return Way.NODE
    return Way.READ if name in _READING_COMMANDS else Way.WRITE


def _is_unnamed(command: Any) -> bool:
    if not isinstance(command, dict):
        return False
    name, payload = command.get("command"), command.get("payload")
    if name in _UNNAMED_COMMANDS:
        return True
    is_queued = isinstance(payload, dict) and bool(payload.get("client_id"))
    return is_queued and name in _QUEUED_COMMANDS
