"""A cache that invalidates itself: a key that is changed anywhere is forgotten here.

    cache = Cache("http://127.0.0.1:15500", prefix="user:")
    cache.get("user:1")   # asks the node
    cache.get("user:1")   # does not, until somebody changes user:1

A thread follows `GET /watch`. All that it keeps is a position: where the connection breaks it goes
on from there, and misses nothing. What is cached counts only while it follows; after a `reset`,
when changes may have been missed, everything is forgotten.

    python examples/cache.py http://127.0.0.1:15500 user:1 user:2
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from urllib.parse import quote

# A node shows every 10 s that it is there.
SILENCE_SECONDS = 25.0
PAUSE_SECONDS = 0.5


class Cache:
    """Values of keys that begin with a prefix; for any number of threads.

    Attributes:
        hits, misses: How often a value was here, and how often the node was asked.
    """

    def __init__(self, url: str, prefix: str = "") -> None:
        self.hits = self.misses = 0
        self._url = url.rstrip("/")
        self._prefix = prefix
        self._values: dict[str, str | None] = {}
        self._position: str | None = None
        # Goes up with every change that is told: what was asked for before one may be old.
        self._changes = 0
        self._is_following = False
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def get(self, key: str) -> str | None:
        """Return the value of a key, None where it is missing."""
        with self._lock:
            if self._is_following and key in self._values:
                self.hits += 1
                return self._values[key]
            changes = self._changes
        value = self._ask(key)
        with self._lock:
            self.misses += 1
            if self._is_following and changes == self._changes and key.startswith(self._prefix):
                self._values[key] = value
        return value

    def close(self) -> None:
        """Follow no more."""
        self._is_over.set()

    def _ask(self, key: str) -> str | None:
        try:
            path = f"{self._url}/kv/get/{quote(key, safe='')}"
            with urllib.request.urlopen(path, timeout=10) as answer:
                value: str = json.load(answer)
                return value
        except urllib.error.HTTPError as error:
            if error.code != http.client.NOT_FOUND:
                raise
            return None

    def _run(self) -> None:
        while not self._is_over.is_set():
            # Whatever happens, it is tried again, from the position on.
            with suppress(OSError, ValueError, http.client.HTTPException):
                self._follow()
            with self._lock:
                self._is_following = False
            self._is_over.wait(PAUSE_SECONDS)

    def _follow(self) -> None:
        # Values are asked for when they are wanted: events need not carry them.
        query = f"prefix={quote(self._prefix)}&values=none"
        if self._position is not None:
            query += f"&from={self._position}"
        request = urllib.request.Request(f"{self._url}/watch?{query}")
        request.add_header("Accept", "application/x-ndjson")
        with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as lines:
            for line in lines:
                if self._is_over.is_set():
                    return
                if line.strip():
                    self._take(json.loads(line))

    def _take(self, event: dict[str, object]) -> None:
        with self._lock:
            if event["event"] == "reset":
                self._position = None
                self._forget()
                return
            if self._position is None:
                # It follows from now on; what was changed before nobody has told.
                self._forget()
            self._position = str(event.get("position", self._position))
            self._is_following = event["event"] != "close"
            for change in event.get("changes", ()):  # type: ignore[attr-defined]
                self._changes += 1
                if change["op"] == "flush":
                    self._values.clear()
                else:
                    self._values.pop(change["key"], None)

    def _forget(self) -> None:
        self._changes += 1
        self._values.clear()


def main() -> None:
    """Print the values of some keys again and again, and how often the node was asked."""
    url, *keys = sys.argv[1:]
    cache = Cache(url)
    while True:
        for key in keys:
            print(key, cache.get(key), f"hits {cache.hits}, misses {cache.misses}")
        time.sleep(1)


if __name__ == "__main__":
    main()
