"""Who is asked next: which node was the master last, and which ones did not answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

_FIRST_SILENCE_SECONDS = 0.1
_LONGEST_SILENCE_SECONDS = 5.0
_SILENCE_FACTOR = 4.0
_LONGEST_STANDSTILL_SECONDS = 30.0
_PORTS = {"http": 80, "https": 443}


def node_url(text: str) -> str:
    """Return a node's URL in its one form, as `http://host:port`.

    Raises:
        ValueError: it is none: http or https, a host, and nothing behind it.
    """
    parts = urlsplit(text)
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError(f"{text!r} is not the URL of a node, such as http://127.0.0.1:15500")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{text!r} must end with the port: a node has no path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}"


class Nodes:
    """The nodes of one cluster, and what is known of them.

    What a node says of others is believed only of those in the list: credentials go nowhere else.

    Attributes:
        urls: In the order that they were given, without doubles.
        master: The place in `urls` of what was the master last; None where nobody knows.
    """

    def __init__(self, urls: Iterable[str], *, has_replicas_read: bool = True) -> None:
        self.urls = list(dict.fromkeys(map(node_url, urls)))
        if not self.urls:
            raise ValueError("a client needs one node at least")
        self.master: int | None = None
        self._has_replicas_read = has_replicas_read
        self._silences = [0] * len(self.urls)
        self._silent_until = [0.0] * len(self.urls)
        self._turn = 0

    def next(self, asked: Collection[int], now: float, *, needs_master: bool) -> int | None:
        """Return the node to ask; None where all were asked.

        The master comes first for what it alone can do, and last for what others can do as well.
        Those that did not answer lately come after all others.

        Args:
            asked: Those that were asked already, in this round.
            now: Seconds of a clock that never goes back.
            needs_master: Whether the master alone can do it.
        """
        left = [number for number in range(len(self.urls)) if number not in asked]
        if not left:
            return None
        wants_master = needs_master or not self._has_replicas_read
        if not wants_master and not asked:
            self._turn += 1

        def order(number: int) -> tuple[bool, bool, int]:
            is_silent = now < self._silent_until[number]
            is_second = (number == self.master) != wants_master
            turn = number if wants_master else (number - self._turn) % len(self.urls)
            return is_silent, is_second, turn

        return min(left, key=order)

    def heard(self, number: int) -> None:
        """Note that a node answered."""
        self._silences[number] = 0
        self._silent_until[number] = 0.0

    def silent(self, number: int, now: float, *, waited_seconds: float) -> None:
        """Note that a node did not answer, or broke the connection.

        What it costs to ask it again is what it has cost: so it is asked the later, the longer it
        was waited for.
        """
        seconds = _FIRST_SILENCE_SECONDS * 2 ** min(self._silences[number], 10)
        seconds = max(min(seconds, _LONGEST_SILENCE_SECONDS), _SILENCE_FACTOR * waited_seconds)
        self._silences[number] += 1
        self._silent_until[number] = now + min(seconds, _LONGEST_STANDSTILL_SECONDS)

    def took_write(self, number: int) -> None:
        """Note that a node is the master."""
        self.master = number

    def refused_write(self, number: int, master: str) -> None:
        """Note that a node is not the master, and whom it takes for it."""
        if self.master == number:
            self.master = None
        try:
            told = self.urls.index(node_url(master))
        except ValueError:
            return
        if told != number and self.master is None:
            self.master = told
