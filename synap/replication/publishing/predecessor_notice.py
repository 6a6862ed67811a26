"""Tells the master before this one that its reign has ended.

A master that was promoted keeps the address of the one that it followed. That one may come back at
any time, and nobody else would tell it: so this one knocks at its ROUTER socket with a hello of its
own until it is answered. The name is resolved again at each knock, and with CurveZMQ another one of
the keys that it may have is tried.

Source: docs/protocol.md, "Reigns".
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from synap.errors import ProtocolViolation, ReplicationError
from synap.position import Lineage, Position
from synap.replication.rules import messages
from synap.replication.rules.messages import Hello, Refusal, Welcome, encode
from synap.replication.transport.curve import Keys, MasterKeys
from synap.replication.transport.handshakes import HandshakeLog
from synap.replication.transport.reach import look_at
from synap.replication.transport.sockets import Endpoint, Sockets

logger = logging.getLogger(__name__)

_BUFFER_BYTES = 64 * 1024
# A reply to a hello comes from a thread that reads the log: this bounds a knock, not an answer.
_KNOCK_SECONDS = 2.0


class PromotedLog(Protocol):
    """What the notice tells of its node's log."""

    @property
    def position(self) -> Position:
        """The end of the log."""

    @property
    def lineage(self) -> Lineage:
        """The reigns of the log."""


class PredecessorNotice:
    """The engine. All methods belong to the loop that `start` was called on."""

    def __init__(
        self,
        log: PromotedLog,
        name: str,
        url: str,
        sync_address: str,
        keys: Keys | None,
    ) -> None:
        """
        Args:
            log: This master's log.
            name: Its `server.node_id`.
            url: Where clients reach it.
            sync_address: ROUTER socket of the master before it.
            keys: What replication is encrypted with; None where it is not.
        """
        self._keys = keys
        self._master_keys = MasterKeys(keys)
        self._handshakes = HandshakeLog(f"with the master before this one, at {sync_address},")
        self._log = log
        self._name = name
        self._url = url
        self._sync_address = sync_address
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to knock."""
        self._task = asyncio.create_task(self._knock())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _knock(self) -> None:
        while not self._heard.is_set():
            sockets = Sockets(_BUFFER_BYTES, self._keys, self._handshakes.note)
            try:
                is_ipv6 = (await look_at(self._sync_address)).is_ipv6
                sync = sockets.connect_sync(
                    self._sync_address, self._receive, None, self._master_keys.current,
                    is_ipv6=is_ipv6,
                )  # fmt: skip
                sockets.keep_doors()
                self._say_hello(sync)
                await asyncio.wait_for(self._heard.wait(), _KNOCK_SECONDS)
            except TimeoutError:
                self._master_keys.turn()
            except ReplicationError as error:
                logger.debug("%s", error)
                await asyncio.sleep(_KNOCK_SECONDS)
            finally:
                sockets.close()
        logger.warning(
            "the master before this one has heard that its reign is over, at %s",
            self._sync_address, extra={"action": "reign_told"},
        )  # fmt: skip

    def _say_hello(self, sync: Endpoint) -> None:
        lineage = self._log.lineage[-messages.MAX_REIGNS :]
        hello = Hello(self._name, self._log.position, lineage, self._url, is_master=True)
        sync.send(encode(hello))

    def _receive(self, parts: list[bytes], _: str) -> None:
        try:
            answer, _bulk = messages.answers.decode(parts)
        except ProtocolViolation as error:
            logger.debug("%s", error)
            return
        is_answer = isinstance(answer, Welcome) or (
            isinstance(answer, Refusal) and answer.reason not in (messages.BUSY, messages.WAIT)
        )
        if is_answer:
            self._heard.set()
