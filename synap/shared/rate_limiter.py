"""How often each client has asked, in memory that all HTTP workers of a node share.

A table of 64-bit cells; a client's cell is the one that a keyed hash of its address chooses. A cell
holds the time, on the monotonic clock in ns, at which the client's bucket is full again: a request
moves it on by one request's share, and is refused where that would leave it further ahead than a
burst. So a cell that was never used, or rests, needs nothing to be done, and a cell further ahead
than that is from before the machine's start and counts as rested. Cells are plain stores without a
lock: of two requests at the same moment one may go uncounted. Clients that share a cell share a
bucket, which one of many thousands does with another.

Source: the generic cell rate algorithm, ITU-T I.371, as a virtual scheduling.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path

import msgspec

from synap.shared.node_file import map_needed_file

_CELLS = 1 << 16
_CELL_BYTES = 8
_MAX_KNOWN_CELLS = 4096
# Behind the cells: the key of the hash.
_KEY_BYTES = 16
_SECOND_NS = 1_000_000_000
# One IPv6 customer mostly has a whole network of these first bits.
_CLIENT_BITS_OF_IPV6 = 64


class Share(msgspec.Struct, frozen=True, gc=False):
    """What a client's bucket holds after a request.

    Attributes:
        is_allowed: Whether the request may go on.
        remaining: Requests that may follow at once.
        reset_seconds: Until the bucket is full again, rounded up.
        retry_seconds: Until the next request is allowed, rounded up; 0 where this one is.
    """

    is_allowed: bool
    remaining: int
    reset_seconds: int
    retry_seconds: int


class RateLimiter:
    """The buckets, mapped by this process."""

    def __init__(self, path: Path, requests_per_second: int, burst_size: int) -> None:
        """Map the node's file, which is made where it is missing.

        Args:
            path: In the run directory.
            requests_per_second: By which a bucket fills.
            burst_size: What a full bucket holds.

        Raises:
            DataDirUnusable: there is no room for it.
        """
        self._step_ns = max(1, _SECOND_NS // requests_per_second)
        self._burst_ns = self._step_ns * burst_size
        size = _CELLS * _CELL_BYTES + _KEY_BYTES
        key = secrets.token_bytes(_KEY_BYTES)
        self._memory = map_needed_file(path, size, tail=key)
        self._cells = memoryview(self._memory)[: _CELLS * _CELL_BYTES].cast("Q")
        self._key = bytes(self._memory[-_KEY_BYTES:])
        self._known_cells: dict[str, int] = {}

    def take(self, client: str, now_ns: int) -> Share:
        """Count a request of `client`, where it is allowed.

        Args:
            client: Its IP address.
            now_ns: The monotonic clock.
        """
        cells, at = self._cells, self._cell_of(client)
        full_ns = cells[at]
        if full_ns < now_ns or full_ns - now_ns > self._burst_ns:
            full_ns = now_ns
        moved_ns = full_ns + self._step_ns
        over_ns = moved_ns - now_ns - self._burst_ns
        if over_ns > 0:
            return Share(False, 0, _seconds(full_ns - now_ns), _seconds(over_ns))
        cells[at] = moved_ns
        return Share(True, -over_ns // self._step_ns, _seconds(moved_ns - now_ns), 0)

    def give_back(self, client: str) -> None:
        """Take back what `take` has just counted: the request is counted again elsewhere."""
        self._cells[self._cell_of(client)] -= self._step_ns

    def close(self) -> None:
        """Unmap the file."""
        self._cells.release()
        self._memory.close()

    def _cell_of(self, client: str) -> int:
        cell = self._known_cells.get(client)
        if cell is None:
            digest = blake2b(_client_name(client), digest_size=4, key=self._key).digest()
            cell = int.from_bytes(digest, "little") % _CELLS
            if len(self._known_cells) >= _MAX_KNOWN_CELLS:
                self._known_cells.clear()
            self._known_cells[client] = cell
        return cell


def _client_name(address: str) -> bytes:
    if ":" not in address:
        return address.encode()
    return ip_address(address).packed[: _CLIENT_BITS_OF_IPV6 // 8]


def _seconds(ns: int) -> int:
    return -(-ns // _SECOND_NS)
