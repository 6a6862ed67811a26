"""Looking whether a master is heard at an address, before a node gives up what it is for it.

An address that is misspelt, that of an HTTP server or of nobody, connects like any other: what
tells a master is what it sends: a heartbeat for each subscriber that is new, and frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from synap.errors import ProtocolViolation, ReplicationError
from synap.replication.rules import messages
from synap.replication.rules.messages import Heartbeat, Streamed
from synap.replication.rules.progress import SILENT_HEARTBEATS
from synap.replication.transport.curve import MasterKeys, load_keys
from synap.replication.transport.handshakes import FailedHandshake
from synap.replication.transport.reach import look_at
from synap.replication.transport.sockets import Sockets

if TYPE_CHECKING:
    from synap.config.keys import Config

# A loaded master may be late, and an operator waits for this.
_LEAST_SECONDS = 5.0
_BUFFER_BYTES = 64 * 1024


async def why_unheard(config: Config, stream_address: str) -> str:
    """Return why no master is heard at its PUB socket; empty where one is.

    Args:
        config: Has the keys and the time between two heartbeats.
        stream_address: host:port.
    """
    return (await _listen(config, stream_address, lambda _: True))[1]


async def heard_beat(config: Config, stream_address: str) -> Heartbeat | None:
    """Return a heartbeat of the node at a PUB socket; None where none is heard in time.

    Args:
        config: As for `why_unheard`.
        stream_address: host:port.
    """
    heard, _ = await _listen(config, stream_address, lambda said: isinstance(said, Heartbeat))
    return heard if isinstance(heard, Heartbeat) else None


async def _listen(
    config: Config, stream_address: str, is_enough: Callable[[Streamed], bool]
) -> tuple[Streamed | None, str]:
    """Return what was heard there that is enough, or why nothing was."""
    heartbeats = SILENT_HEARTBEATS * config.replication.heartbeat_interval_ms / 1000
    seconds = max(heartbeats, _LEAST_SECONDS)
    keys = load_keys(config)
    reach = await look_at(stream_address)
    if reach.problem:
        return None, reach.problem
    master_keys = MasterKeys(keys)
    while True:
        attempt = _Attempt(is_enough)
        sockets = Sockets(_BUFFER_BYTES, keys, attempt.note_failure)
        try:
            sockets.connect_stream(
                stream_address, attempt.take, None, master_keys.current, is_ipv6=reach.is_ipv6
            )
            # Its thread is what tells of handshakes that failed: another key, no encryption.
            sockets.keep_doors()
            async with asyncio.timeout(seconds):
                await attempt.ended.wait()
        except ReplicationError as error:
            return None, str(error)
        except TimeoutError:
            pass
        finally:
            sockets.close()
        if attempt.heard is not None:
            return attempt.heard, ""
        if not (attempt.wants_other_key and master_keys.turn()):
            return None, attempt.reason or f"nothing was heard there for {seconds:g} s"


class _Attempt:
    """One connection, until the master speaks or it can't."""

    def __init__(self, is_enough: Callable[[Streamed], bool]) -> None:
        self.ended = asyncio.Event()
        self.heard: Streamed | None = None
        self._is_enough = is_enough
        self.wants_other_key = False
        self.reason = ""

    def take(self, parts: list[bytes], _: str) -> None:
        try:
            said = messages.stream.decode(parts)[0]
        except ProtocolViolation as error:
            self.reason = f"what is heard there is no master: {error}"
        else:
            # A frame too: it may come in the same wake-up as the heartbeat that it follows.
            if self._is_enough(said):
                self.heard = said
        if self.heard is not None or self.reason:
            self.ended.set()

    def note_failure(self, failed: FailedHandshake) -> None:
        self.reason = failed.reason
        self.wants_other_key = failed.is_other_key
        if failed.is_final or failed.is_other_key:
            self.ended.set()
