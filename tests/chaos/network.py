"""A network namespace with two links to this one, of which one can be cut.

Nodes in it are reached over the first link, and replicate over the second. Needs root and `ip`, and
leaves nothing behind.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess


def why_not() -> str:
    """Return why there can be no namespaces here; empty where there can."""
    if shutil.which("ip") is None:
        return "the program ip (Debian package iproute2) is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"synap-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"this machine makes no network namespace: {made.stderr.strip()}"
    veth = ["ip", "-n", name, "link", "add", "name", "sx", "type", "veth"]
    linked = subprocess.run(veth, capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], check=True)
    return "" if linked.returncode == 0 else f"no veth links here: {linked.stderr.strip()}"


class Network:
    """The namespace; a context manager.

    Attributes:
        launcher: Runs a command in it.
        inside: Address of the namespace that this process reaches.
        inside_cut: Its address on the link that can be cut.
        outside_cut: This side's address on that link.
    """

    def __init__(self) -> None:
        # Names of links have 15 characters. Each process has eight addresses of the block for
        # benchmarks, 198.18.0.0/15, so that several can run this at once.
        tag = os.getpid()
        first = ipaddress.IPv4Address("198.18.0.0") + tag * 8 % 2**17
        self._name = f"synap-{tag}"
        self._links = (f"sa{tag}", f"sb{tag}")
        self.launcher = ("ip", "netns", "exec", self._name)
        self._outside, self.inside = str(first + 1), str(first + 2)
        self.outside_cut, self.inside_cut = str(first + 5), str(first + 6)

    def __enter__(self) -> Network:
        ip("netns", "add", self._name)
        try:
            ip("-n", self._name, "link", "set", "lo", "up")
            self._join(self._links[0], f"{self._outside}/30", f"{self.inside}/30")
            self._join(self._links[1], f"{self.outside_cut}/30", f"{self.inside_cut}/30")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def cut(self) -> None:
        """Lose every packet on the second link, in silence."""
        ip("-n", self._name, "link", "set", f"{self._links[1]}p", "down")

    def mend(self) -> None:
        """Carry packets again."""
        ip("-n", self._name, "link", "set", f"{self._links[1]}p", "up")

    def delay(self, milliseconds: int) -> bool:
        """Have packets of the second link be late, each way; return False where that can't be."""
        late = ["root", "netem", "delay", f"{milliseconds}ms", "limit", "100000"]
        outside = ["tc", "qdisc", "add", "dev", self._links[1], *late]
        inside = [*self.launcher, "tc", "qdisc", "add", "dev", f"{self._links[1]}p", *late]
        done = [
            subprocess.run(each, capture_output=True, check=False) for each in (outside, inside)
        ]
        return not any(each.returncode for each in done)

    def _join(self, link: str, outside: str, inside: str) -> None:
        peer = f"{link}p"
        ip("link", "add", "name", link, "type", "veth", "peer", "name", peer, "netns", self._name)
        ip("addr", "add", outside, "dev", link)
        ip("link", "set", link, "up")
        ip("-n", self._name, "addr", "add", inside, "dev", peer)
        ip("-n", self._name, "link", "set", peer, "up")

    def _remove(self) -> None:
        # The links go with the namespace, once nothing runs in it.
        for link in self._links:
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self._name], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    """Run `ip`; raise CalledProcessError where it fails."""
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
