"""Asks the nodes that used to follow a master, before it takes writes, whether one reigns by now.

One that was promoted listens where it said that it would; one that still follows does not, and so
refuses the connection at once. Nobody is waited for longer than a bound: a lone master must start.

Source: docs/protocol.md, "Reigns".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Literal, NamedTuple

from synap.errors import ProtocolViolation, ReplicationError
from synap.position import Lineage
from synap.replication.rules import messages
from synap.replication.rules.messages import Inquiry, Welcome, encode
from synap.replication.rules.reigns import epoch_above
from synap.replication.transport.curve import Keys
from synap.replication.transport.reach import look_at
from synap.replication.transport.sockets import Sockets

logger = logging.getLogger(__name__)

_BUFFER_BYTES = 64 * 1024


class Rival(NamedTuple):
    """A master that reigns in this one's place.

    Attributes:
        epoch: Its reign's; 0 for no such master.
        url: Where clients reach it; empty where it does not tell.
    """

    epoch: int = 0
    url: str = ""


async def find_rival(
    name: str,
    lineage: Lineage,
    addresses: Iterable[str],
    seconds: float,
    keys: Keys | None = None,
    *,
    tells_of_silence: bool = True,
) -> Rival:
    """Return the master of the highest epoch that ends this one's reign; an empty one for none.

    Args:
        name: Its `server.node_id`.
        lineage: Its reigns.
        addresses: Where the others' ROUTER sockets would be.
        seconds: How long to wait in all.
        keys: What replication is encrypted with; None where it is not.
        tells_of_silence: Whether the log names who did not answer.
    """
    asked = tuple(dict.fromkeys(addresses))
    found = await asyncio.gather(*(_ask(name, address, seconds, keys) for address in asked))
    silent = [address for address, heard in zip(asked, found, strict=True) if heard is None]
    if silent and tells_of_silence:
        logger.warning(
            "no word within %g s from %s: should one of them be the master by now, this node "
            "takes writes until it hears of it", seconds, ", ".join(silent),
            extra={"action": "inquiry", "silent": len(silent), "asked": len(asked)},
        )  # fmt: skip
    rivals = (
        Rival(epoch_above(heard.lineage, lineage, from_master=True), heard.url)
        for heard in found
        if heard
    )
    return max(rivals, default=Rival(), key=lambda rival: rival.epoch)


async def _ask(
    name: str, address: str, seconds: float, keys: Keys | None
) -> Welcome | Literal[False] | None:
    """Return what the master at `address` tells, False where there is none; None for no word."""
    try:
        async with asyncio.timeout(seconds):
            reach = await look_at(address)
            if reach.problem:
                return False if reach.is_refused else None
            return await _words_of(name, address, keys, is_ipv6=reach.is_ipv6)
    except TimeoutError:
        return None
    except (OSError, ReplicationError) as error:
        logger.debug("%s: %s", address, error)
        return None


async def _words_of(name: str, address: str, keys: Keys | None, *, is_ipv6: bool) -> Welcome:
    """Return what the master at `address` tells; with encryption it answers to one of the keys."""
    answered: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()

    def receive(parts: list[bytes], _: str) -> None:
        try:
            answer, _bulk = messages.answers.decode(parts)
        except ProtocolViolation as error:
            logger.debug("%s", error)
            return
        if isinstance(answer, Welcome) and not answered.done():
            answered.set_result(answer)

    sockets = Sockets(_BUFFER_BYTES, keys)
    try:
        for server_key in keys.servers if keys is not None else (b"",):
            sync = sockets.connect_sync(address, receive, None, server_key, is_ipv6=is_ipv6)
            sync.send(encode(Inquiry(name)))
        sockets.keep_doors()
        return await answered
    finally:
        sockets.close()
