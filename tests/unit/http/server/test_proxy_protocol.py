"""The PROXY protocol's header: what it says, and what is left of the connection behind it."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from synap.http.server.proxy_protocol import Client, HeaderInvalid, told_client

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = b"\xc0\0\x02\x07" + b"\x7f\0\0\x01" + b"\x12\x34\x3c\x8c"
TCP6 = bytes(15) + b"\x01" + bytes(15) + b"\x02" + b"\x12\x34\x3c\x8c"
GET = b"GET / HTTP/1.1\r\n"


def header(addresses: bytes, family: int, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(addresses).to_bytes(2, "big") + addresses


def told(pieces: Sequence[bytes], seconds: float = 5.0) -> tuple[Client | None, bytes]:
    """Return whom a connection is from that brings `pieces`, and what can still be read of it."""

    async def scenario() -> tuple[Client | None, bytes]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            looking = asyncio.ensure_future(told_client(ours, seconds))
            for piece in pieces:
                theirs.sendall(piece)
                await asyncio.sleep(0)
            theirs.shutdown(socket.SHUT_WR)
            return await looking, ours.recv(4096)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("head", "client"),
    [
        (header(TCP4, 0x11), ("192.0.2.7", 0x1234)),
        (header(TCP4 + b"\x04\0\x01x", 0x11), ("192.0.2.7", 0x1234)),
        (header(TCP6, 0x21), ("::1", 0x1234)),
        (header(b"", 0, 0x20), None), (header(TCP4, 0x11, 0x20), None),
        (header(bytes(216), 0x31), None), (header(b"", 0), None), (b"", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cut", [0, 1, 13])
def test_header_names_the_client_and_the_rest_is_the_clients(
    head: bytes, client: Client | None, cut: int
) -> None:
    whole = head + GET
    assert told([whole[:cut], whole[cut:]] if cut else [whole]) == (client, GET)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\r\n\r\nGET /", b"\r\n\r\n\0x", b"P"])
def test_connection_without_a_header_is_left_as_it_is(first: bytes) -> None:
    assert told([first]) == (None, first)


@pytest.mark.parametrize(
    "head",
    [
        header(TCP4[:11], 0x11), header(TCP4, 0x21), header(TCP4, 0x11, 0x11),
        header(TCP4, 0x11, 0x2F), header(bytes(4097), 0x11), header(TCP4, 0x11)[:-1],
    ],
)  # fmt: skip
def test_header_that_can_not_be_read_ends_the_connection(head: bytes) -> None:
    with pytest.raises(HeaderInvalid):
        told([head])


def test_client_that_says_nothing_is_not_waited_for() -> None:
    async def scenario() -> Client | None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            return await told_client(ours, 0.01)

    assert asyncio.run(scenario()) is None
