"""The change feed: its events, and how a watcher goes on after its stream was cut.

Pure: the clients read the lines, here they become events, and the position is kept.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from synap_client.errors import SynapClientError, WatchReset

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Begin:
    """A first state begins: forget what you know. It comes again after a reset, or a cut."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the first state.

    Attributes:
        key: Its name.
        data: The stored bytes; None where none are told, or they are too long for the feed.
        version: Of this state of the key.
        expires_at_ms: Since 1970; None for ever.
    """

    key: str
    data: bytes | None
    version: str
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Synced:
    """The first state is whole, and was that of `position`."""

    position: str


@dataclass(frozen=True, slots=True)
class KeySet:
    """A key was written; the fields are those of `Entry`."""

    key: str
    data: bytes | None
    version: str
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class KeyDeleted:
    """A key went; the cause is `client`, `expired`, `evicted` or `renamed`."""

    key: str
    cause: str


@dataclass(frozen=True, slots=True)
class Flushed:
    """All keys went."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done at once, in its order.

    Attributes:
        position: To go on after it, by `start`.
        time_ms: When, since 1970.
        changes: Never a part of what was one write.
    """

    position: str
    time_ms: int
    changes: tuple[KeySet | KeyDeleted | Flushed, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing else happened up to `position`."""

    position: str


Event: TypeAlias = Begin | Entry | Synced | Change | Progress


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched.

    Attributes:
        prefixes, keys, patterns: Any key that one of these fits; without any, all keys.
        has_values: Whether values are told.
        min_replicas: How many replicas must hold what is told; 0 tells what one node has applied.
    """

    prefixes: Sequence[str] = ()
    keys: Sequence[str] = ()
    patterns: Sequence[str] = ()
    has_values: bool = True
    min_replicas: int = 0


class Follower:
    """Where a watcher is, from stream to stream.

    Attributes:
        position: What was told last; empty before that.
    """

    def __init__(self, watched: Watched, start: str, *, has_initial: bool) -> None:
        self.position = start
        self._watched = watched
        self._has_initial = has_initial
        # A first state that was cut before its end has no position to go on from.
        self._needs_initial = has_initial and not start
        self._cuts = 0
        self._wanted_pause = 0.0
        self._is_over = False

    def begin(self) -> Begin | None:
        """Begin a stream, and return the event for it, if there is one."""
        self._is_over = False
        return Begin() if self._needs_initial else None

    @property
    def headers(self) -> dict[str, str]:
        """Of the request for the stream."""
        headers = {"Accept": "application/x-ndjson"}
        if self._watched.min_replicas:
            headers["X-Synap-Min-Replicas"] = str(self._watched.min_replicas)
        return headers

    @property
    def params(self) -> list[tuple[str, str]]:
        """Of the request for the stream, as it goes on from here."""
        watched = self._watched
        params = [("prefix", each) for each in watched.prefixes]
        params += [("key", each) for each in watched.keys]
        params += [("pattern", each) for each in watched.patterns]
        if not watched.has_values:
            params.append(("values", "none"))
        if self._needs_initial:
            params.append(("include", "initial"))
        elif self.position:
            params.append(("from", self.position))
        return params

    @property
    def is_over(self) -> bool:
        """Whether the stream said that it ends."""
        return self._is_over

    def cut(self, random: float) -> float:
        """Note that a stream ended, and return how many seconds to wait before the next."""
        pause: float = min(_FIRST_PAUSE_SECONDS * 2 ** min(self._cuts, 10), _LONGEST_PAUSE_SECONDS)
        self._cuts += 1
        wanted, self._wanted_pause = self._wanted_pause, 0.0
        return max(pause * (1 + random) / 2, wanted)

    def line(self, line: str) -> Event | None:
        """Return the event of a line; None where it has none for the caller.

        Raises:
            WatchReset: the log does not go on from here, and no first state was asked for.
            SynapClientError: the line is none of a change feed.
        """
        if not line.strip():
            return None
        try:
            return self._event(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise SynapClientError(f"no line of a change feed: {line[:200]!r}") from error

    def _event(self, fields: dict[str, Any]) -> Event | None:
        match fields["event"]:
            case "entry":
                return Entry(*_kept(fields))
            case "synced":
                self._needs_initial = False
                self._at(fields)
                return Synced(self.position)
            case "change":
                self._at(fields)
                changes = tuple(map(_change, fields["changes"]))
                return Change(self.position, int(fields["time_ms"]), changes)
            case "progress":
                if self._needs_initial:
                    return None
                self._at(fields)
                return Progress(self.position)
            case "reset":
                self._reset(fields)
            case "close":
                self._is_over = True
                self._wanted_pause = int(fields.get("retry_ms") or 0) / 1000
        return None

    def _at(self, fields: dict[str, Any]) -> None:
        self.position = str(fields["position"])
        self._cuts = 0

    def _reset(self, fields: dict[str, Any]) -> None:
        self._is_over = True
        if not self._has_initial:
            oldest, common = fields.get("oldest") or "", fields.get("common") or ""
            raise WatchReset(str(fields["reason"]), str(oldest), str(common))
        self._needs_initial = True
        self.position = ""


def _change(fields: dict[str, Any]) -> KeySet | KeyDeleted | Flushed:
    operation: Literal["set", "del", "flush"] = fields["op"]
    if operation == "set":
        return KeySet(*_kept(fields))
    if operation == "del":
        return KeyDeleted(str(fields["key"]), str(fields["cause"]))
    return Flushed()


def _kept(fields: dict[str, Any]) -> tuple[str, bytes | None, str, int | None]:
    data = None
    if "value_base64" in fields:
        data = base64.b64decode(fields["value_base64"])
    elif "value" in fields:
        data = str(fields["value"]).encode()
    expires_at_ms = fields.get("expires_at_ms")
    return str(fields["key"]), data, str(fields["version"]), expires_at_ms
