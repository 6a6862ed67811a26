"""Network namespaces around one that forwards between them, where each pair can be cut apart.

A cut loses every packet in silence, as a switch that died does. This process reaches all of them,
whatever is cut. Needs root and `ip`, and leaves nothing behind.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Sequence
from itertools import count

from tests.chaos import network

_LEG_ADDRESSES = 4
_HUB_ADDRESSES = 64
_numbers = count()


def why_not() -> str:
    """Return why there can be no hub here; empty where there can."""
    reason = network.why_not()
    if reason:
        return reason
    try:
        with Hub(("a", "b")) as hub:
            hub.cut("a", "b")
    except subprocess.CalledProcessError as error:
        return f"no forwarding between namespaces here: {error.stderr.strip()}"
    return ""


class Hub:
    """The namespaces; a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        """
        Args:
            names: Of the namespaces; 14 of them at most.
        """
        self._tag = f"{os.getpid()}-{next(_numbers)}"
        # Of the block for benchmarks, 198.18.0.0/15, another part for each process.
        first = ipaddress.IPv4Address("198.18.0.0") + os.getpid() * _HUB_ADDRESSES % 2**17
        self._block = f"{first}/26"
        self._legs = {
            name: first + number * _LEG_ADDRESSES for number, name in enumerate(("", *names))
        }
        self._hub = f"synap-{self._tag}"
        self._cuts: list[tuple[str, str]] = []

    def __enter__(self) -> Hub:
        try:
            network.ip("netns", "add", self._hub)
            self._in_hub("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            for number, name in enumerate(self._legs):
                self._add_leg(number, name)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def address(self, name: str) -> str:
        """Return where a namespace is reached."""
        return str(self._legs[name] + 2)

    def launcher(self, name: str) -> tuple[str, ...]:
        """Return what runs a command in a namespace."""
        return ("ip", "netns", "exec", self._namespace(name))

    def cut(self, *pair: str) -> None:
        """Lose what two namespaces send each other."""
        a, b = map(self.address, pair)
        for way in ((a, b), (b, a)):
            network.ip("-n", self._hub, "rule", "add", "from", way[0], "to", way[1], "blackhole")
            self._cuts.append(way)

    def mend(self) -> None:
        """Carry all packets again."""
        while self._cuts:
            a, b = self._cuts.pop()
            network.ip("-n", self._hub, "rule", "del", "from", a, "to", b, "blackhole")

    def _add_leg(self, number: int, name: str) -> None:
        inside, outside = ["-n", self._hub], ["-n", self._namespace(name)] if name else []
        link, peer = f"h{number}", f"sh{os.getpid()}" if not name else "eth0"
        gateway = self._legs[name] + 1
        if name:
            network.ip("netns", "add", self._namespace(name))
            network.ip(*outside, "link", "set", "lo", "up")
        made = ["link", "add", "name", link, "type", "veth", "peer", "name", peer]
        netns = self._namespace(name) if name else str(os.getpid())
        network.ip(*inside, *made, "netns", netns)
        network.ip(*inside, "addr", "add", f"{gateway}/30", "dev", link)
        network.ip(*inside, "link", "set", link, "up")
        network.ip(*outside, "addr", "add", f"{gateway + 1}/30", "dev", peer)
        network.ip(*outside, "link", "set", peer, "up")
        network.ip(*outside, "route", "add", self._block, "via", str(gateway))

    def _namespace(self, name: str) -> str:
        return f"synap-{self._tag}-{name}"

    def _in_hub(self, *command: str) -> None:
        subprocess.run(
            ["ip", "netns", "exec", self._hub, *command],
            check=True, capture_output=True, text=True,
        )  # fmt: skip

    def _remove(self) -> None:
        # Links go with their namespaces, once nothing runs in these.
        link = ["ip", "link", "del", f"sh{os.getpid()}"]
        subprocess.run(link, capture_output=True, check=False)
        for name in [self._hub, *(self._namespace(each) for each in self._legs if each)]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
