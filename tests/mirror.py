"""A client of the feed that keeps a copy of all keys, and of the feed nothing but a position."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import struct
import threading
from base64 import b64decode
from contextlib import suppress
from typing import Any

from synap.frame import KEYS
from tests.support import Node, eventually

_DIGESTED = struct.Struct("<BHI")
_RECORD = struct.Struct("<QQ")
_PAUSE_SECONDS = 0.02
# Longer than the time between two signs of life.
_SILENCE_SECONDS = 15.0


class Mirror:
    """Follows `target`, comes again after every end, and holds the feed to its promises.

    Attributes:
        target: The node that is asked.
        position: What was told last; None before the keys were had once.
        resets: The reasons of the resets.
        faults: What was wrong with the feed.
        connections: How often it came.
    """

    def __init__(self, target: Node) -> None:
        self.target = target
        self.position: str | None = None
        self.resets: list[str] = []
        self.faults: list[str] = []
        self.connections = 0
        self._keys: dict[str, tuple[int, int, bytes]] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        # The connection's own: an answer without an end takes it over.
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.cut()
        self._thread.join(_SILENCE_SECONDS + 5)

    def cut(self) -> None:
        """Break the connection off."""
        if self._socket is not None:
            # It may be closed already.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def digest(self) -> tuple[int, str]:
        """Return the number of keys, and what `/digest` should say where there are only keys."""
        state = hashlib.sha256()
        with self._lock:
            for key in sorted(name.encode() for name in self._keys):
                version, expiry_ms, value = self._keys[key.decode()]
                record = _RECORD.pack(version, expiry_ms) + value
                state.update(_DIGESTED.pack(KEYS, len(key), len(record)) + key + record)
            return len(self._keys), state.hexdigest()

    def await_level(self, node: Node, seconds: float = 30.0) -> None:
        """Wait until it holds what the node does, which must not change meanwhile."""

        def is_level() -> bool:
            assert not self.faults, self.faults
            told = node.request("GET", "/digest").json()
            return self.digest() == (told["keys"], told["digest"])

        eventually(is_level, seconds)

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._follow()
            except (OSError, http.client.HTTPException, ValueError):
                # What a broken connection looks like; the next one goes on from the position.
                pass
            except AssertionError as error:
                self.faults.append(str(error))
            self._is_over.wait(_PAUSE_SECONDS)

    def _follow(self) -> None:
        begin = "include=initial" if self.position is None else f"from={self.position}"
        connection = self.target.connect(_SILENCE_SECONDS)
        try:
            self.connections += 1
            connection.connect()
            self._socket = connection.sock
            headers = {"Accept": "application/x-ndjson"}
            connection.request("GET", f"/watch?{begin}", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                return
            if self.position is None:
                with self._lock:
                    self._keys.clear()
            last = 0
            while line := answer.readline():
                # One that has no end was cut.
                if line.endswith(b"\n") and line.strip():
                    last = self._take(json.loads(line), last)
        finally:
            connection.close()

    def _take(self, event: dict[str, Any], last: int) -> int:
        """Take an event; return the offset of what this connection has told."""
        name, position = event["event"], event.get("position")
        with self._lock:
            if name == "reset":
                self.resets.append(event["reason"])
                self.position = None
                return last
            if name == "entry":
                self._set(event)
            offset = last if position is None else int(position.partition("-")[0])
            if name == "change":
                assert offset > last, f"{position} comes after {last}"
                for change in event["changes"]:
                    self._change(change)
            if name in ("change", "progress", "synced"):
                self.position = position
        return max(offset, last)

    def _change(self, change: dict[str, Any]) -> None:
        if change["op"] == "set":
            self._set(change)
        elif change["op"] == "del":
            assert change["key"] in self._keys, f"{change} removes what is not there"
            del self._keys[change["key"]]
        else:
            self._keys.clear()

    def _set(self, told: dict[str, Any]) -> None:
        value = told["value"].encode() if "value" in told else b64decode(told["value_base64"])
        version = int(told["version"].partition("-")[0])
        known = self._keys.get(told["key"])
        assert known is None or known[0] < version, f"{told['key']} of {version} again"
        self._keys[told["key"]] = version, told["expires_at_ms"] or 0, value
