"""The PROXY protocol, version 2: a balancer says whose connection it passes on.

Its header comes before all else, also before a TLS handshake. It is looked for only on connections
of addresses that the application trusts, where any may do without.

    at  size  field
     0    12  signature
    12     1  version 2, and command: 0 LOCAL (the balancer's own connection), 1 PROXY
    13     1  family and protocol: 0x11 TCP over IPv4, 0x21 TCP over IPv6
    14     2  length of what follows, big-endian
    16        addresses of source and destination, their ports, and fields that are passed over

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = struct.Struct(">12sBBH")
_IPV4 = struct.Struct(">4s4sHH")
_IPV6 = struct.Struct(">16s16sHH")
_TCP4, _TCP6 = 0x11, 0x21
_LOCAL, _PROXIED = 0x20, 0x21
# Far above what addresses and the known fields take.
_MOST_BYTES = 4096
# A part of the signature is here: the rest comes at once, or never.
_LOOK_AGAIN_SECONDS = 0.005

Client = tuple[str, int]
"""A client's address and port."""


class HeaderInvalid(ConnectionError):
    """The balancer's header is none."""


async def told_client(connection: socket.socket, seconds: float) -> Client | None:
    """Read the header that a connection begins with, and nothing beyond.

    Args:
        connection: Does not block.
        seconds: How long the first bytes may take.

    Returns:
        Whose connection it is; None where there is no header, or where it is the balancer's own.

    Raises:
        HeaderInvalid: there is one that can't be read.
        TimeoutError: it came in part.
    """
    try:
        async with asyncio.timeout(seconds):
            has_header = await _begins_with_header(connection)
    except TimeoutError:
        # A client that has not said anything yet is held to its time as any other.
        return None
    if not has_header:
        return None
    async with asyncio.timeout(seconds):
        head = await _exactly(connection, _HEAD.size)
        _, command, family, length = _HEAD.unpack(head)
        if length > _MOST_BYTES or command not in (_LOCAL, _PROXIED):
            raise HeaderInvalid(f"version and command {command:#04x}, {length} bytes")
        addresses = await _exactly(connection, length)
    return _source(family, addresses) if command == _PROXIED else None


def _source(family: int, addresses: bytes) -> Client | None:
    """Return the source of a connection; None where it is of another kind."""
    try:
        if family == _TCP4:
            address, _, port, _ = _IPV4.unpack_from(addresses)
            return str(IPv4Address(address)), port
        if family == _TCP6:
            address, _, port, _ = _IPV6.unpack_from(addresses)
            return str(IPv6Address(address)), port
    except struct.error as error:
        raise HeaderInvalid(f"{len(addresses)} bytes of addresses") from error
    return None


async def _begins_with_header(connection: socket.socket) -> bool:
    while True:
        try:
            seen = connection.recv(len(_SIGNATURE), socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(connection)
            continue
        if not seen or not _SIGNATURE.startswith(seen):
            return False
        if len(seen) == len(_SIGNATURE):
            return True
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            part = connection.recv(count - len(data))
        except BlockingIOError:
            await _readable(connection)
            continue
        if not part:
            raise HeaderInvalid("it was cut off")
        data += part
    return data


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    file = connection.fileno()

    def tell() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(file, tell)
    try:
        await readable
    finally:
        loop.remove_reader(file)
