"""The proxies whose word about a client is believed, by address or by name.

A proxy in a container has a new address each time that it is made, so a name is resolved again and
again, beside the loop. One that does not resolve is nobody's.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from synap.addresses import plain_address

logger = logging.getLogger(__name__)

RESOLVE_SECONDS = 5.0
# How long the addresses of a name that does not resolve any more are believed.
KEEP_SECONDS = 30.0


class TrustedProxies:
    """The proxies of one node (server.trusted_proxies)."""

    def __init__(self, listed: Sequence[str]) -> None:
        """
        Args:
            listed: Addresses, networks and names; names hold nobody before `start`.
        """
        self._networks: list[IPv4Network | IPv6Network] = []
        self._names: dict[str, tuple[frozenset[str], float]] = {}
        for each in listed:
            try:
                self._networks.append(ip_network(each))
            except ValueError:
                self._names[each] = (frozenset(), 0.0)
        self._resolved: frozenset[str] = frozenset()
        self._is_over = threading.Event()

    def __bool__(self) -> bool:
        return bool(self._networks or self._names)

    def __contains__(self, address: str) -> bool:
        """Say whether an address, as `plain_address` gives it, is a proxy's; "" is none."""
        if address in self._resolved:
            return True
        if not self._networks or not address:
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._networks)

    def start(self) -> None:
        """Begin to resolve, in the process that serves."""
        if self._names:
            # A daemon: an answer of the resolver may take longer than anybody waits.
            threading.Thread(target=self._resolve_again, name="proxies", daemon=True).start()

    def close(self) -> None:
        """Resolve no more."""
        self._is_over.set()

    def _resolve_again(self) -> None:
        while not self._is_over.is_set():
            self.resolve(time.monotonic())
            self._is_over.wait(RESOLVE_SECONDS)

    def resolve(self, now: float) -> None:
        """Resolve every name once.

        Args:
            now: The moment, in seconds of a clock that never goes back.
        """
        for name, (known, since) in tuple(self._names.items()):
            found = _addresses_of(name)
            if found:
                self._names[name] = found, now
            elif known and now - since > KEEP_SECONDS:
                self._names[name] = frozenset(), now
            if self._names[name][0] != known:
                logger.info(
                    "the proxy %s is %s", name, ", ".join(sorted(found)) or "not to be found",
                    extra={"action": "trusted_proxy"},
                )  # fmt: skip
        self._resolved = frozenset().union(*(known for known, _ in self._names.values()))


def _addresses_of(name: str) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(plain_address(str(entry[4][0])) for entry in found) - {""}
