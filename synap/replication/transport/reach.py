"""Looking whether an address of a master can be reached, and why not, in words for an operator.

ZeroMQ tries again for ever and tells nobody why. Whoever has heard nothing asks here.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import msgspec

from synap.addresses import plain_address, reachable_address, split_address

_CONNECT_SECONDS = 1.0
_REFUSED = "the connection is refused: no node listens there"
# All that a look takes, a slow resolver too.
LOOK_SECONDS = 3.0


class Reach(msgspec.Struct, frozen=True):
    """What a look has shown.

    Attributes:
        problem: Why nothing can be reached there; "" where something takes connections.
        is_ipv6: Whether it is reached by IPv6, which ZeroMQ must be told of a name.
        is_refused: Whether the problem is that nobody listens there.
    """

    problem: str = ""
    is_ipv6: bool = False
    is_refused: bool = False


async def look_at(address: str) -> Reach:
    """Look at a TCP address once.

    Args:
        address: host:port; of a name's addresses those of IPv4 are tried first.
    """
    host, port = split_address(address)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await _look(host, port)
    except TimeoutError:
        return Reach(f"{host} did not answer within {LOOK_SECONDS:g} s, or was not resolved")


def leads_to(address: str, listening: str) -> bool:
    """Say whether an address is that where this node itself listens.

    Args:
        address: host:port; a name is looked up nowhere, so it is none.
        listening: host:port, where a wildcard stands for all addresses of this machine.
    """
    host = split_address(address)[0]
    if address == listening:
        return True
    return reachable_address(listening, host) == address and _is_of_this_machine(host)


def _is_of_this_machine(host: str) -> bool:
    if not plain_address(host):
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Sends nothing. Only what leads to itself is reached from there.
            probe.connect((host, 9))
            return bool(probe.getsockname()[0] == host)
    except OSError:
        return False


async def _look(host: str, port: int) -> Reach:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "it is no name"
        return Reach(f"the name {host} can't be resolved: {why}")
    by_family = sorted(found, key=lambda each: each[0] == socket.AF_INET6)
    refusals = []
    for family, _, _, _, target in by_family:
        refusal = await _refusal(target)
        if not refusal:
            return Reach("", family == socket.AF_INET6)
        refusals.append(refusal)
    if not refusals:
        return Reach(f"the name {host} has no address")
    # All must have refused it: behind another one there may be a node all the same.
    other = next((each for each in refusals if each != _REFUSED), "")
    return Reach(other or _REFUSED, is_refused=not other)


async def _refusal(target: tuple[Any, ...]) -> str:
    """Return why no connection can be made to an address; "" where it can."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(target[0], target[1])
    except ConnectionRefusedError:
        return _REFUSED
    except TimeoutError:
        return "no connection: a firewall, or a machine that is off"
    except OSError as error:
        return f"no connection: {error.strerror or error}"
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ""
