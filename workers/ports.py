"""Finds a port that is taken before anything is started on it."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping

from synap.addresses import split_address
from synap.errors import PortInUse

_LOOK_AGAIN_SECONDS = 0.05


def check_ports(addresses: Mapping[str, str], fix: str, wait_seconds: float = 0.0) -> None:
    """Check that each address can be listened on.

    Args:
        addresses: `host:port` by what it is for, as `HTTP of replica1`.
        fix: What the operator can change, for the message.
        wait_seconds: How long to wait for a predecessor that is just ending.

    Raises:
        PortInUse: For the first that can't.
    """
    deadline = time.monotonic() + wait_seconds
    for purpose, address in addresses.items():
        while (refusal := _refusal(address)) is not None:
            if time.monotonic() >= deadline:
                port = split_address(address)[1]
                raise PortInUse(
                    f"{address} ({purpose}) can't be listened on: {refusal}. Stop what holds port "
                    f"{port} (`ss -ltnp 'sport = :{port}'` shows it) or {fix}"
                )
            time.sleep(_LOOK_AGAIN_SECONDS)


def _refusal(address: str) -> str | None:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except OSError as error:
        return "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return None
