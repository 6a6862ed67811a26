"""Whether a master's address can be reached, and by which family."""

import asyncio
import socket

import pytest

from synap.replication.transport.reach import leads_to, look_at
from synap.replication.transport.sockets import Sockets
from tests.support import free_port

SECONDS = 10.0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_address_that_is_listened_on_is_reached_by_its_family(host: str) -> None:
    is_ipv6 = host == "[::1]"
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    with socket.create_server((host.strip("[]"), 0), family=family) as server:
        reach = asyncio.run(look_at(f"{host}:{server.getsockname()[1]}"))
    assert (reach.problem, reach.is_ipv6) == ("", is_ipv6)


def test_port_that_nobody_listens_on_is_refused() -> None:
    reach = asyncio.run(look_at(f"127.0.0.1:{free_port()}"))
    assert reach.is_refused
    assert "refused" in reach.problem


@pytest.mark.parametrize("host", ["nosuchhost.invalid", "a" * 64])
def test_name_that_does_not_exist_is_said_not_to_be_resolved(host: str) -> None:
    assert "resolved" in asyncio.run(look_at(f"{host}:15501")).problem


def test_channel_works_over_ipv6() -> None:
    async def scenario() -> list[bytes]:
        address, heard = f"[::1]:{free_port()}", asyncio.get_running_loop().create_future()
        sockets = Sockets(64 * 1024)
        try:
            sockets.bind_sync(address, 1000, lambda parts, peer: heard.set_result([*parts, peer]))
            sockets.connect_sync(address, lambda parts, _: None, None).send([b"hello"])
            return await asyncio.wait_for(heard, SECONDS)
        finally:
            sockets.close()

    assert asyncio.run(scenario())[1:] == [b"hello", "::1"]


@pytest.mark.parametrize(
    ("address", "listening", "is_own"),
    [
        ("127.0.0.1:15502", "127.0.0.1:15502", True),
        ("node2:15502", "node2:15502", True),
        ("127.0.0.1:15502", "0.0.0.0:15502", True),
        ("127.0.0.1:15512", "0.0.0.0:15502", False),
        ("127.0.0.2:15502", "127.0.0.1:15502", False),
        # Of another machine, and a name.
        ("192.0.2.1:15502", "0.0.0.0:15502", False),
        ("localhost:15502", "0.0.0.0:15502", False),
    ],
)
def test_address_leads_to_its_own_node(address: str, listening: str, is_own: bool) -> None:
    assert leads_to(address, listening) is is_own
