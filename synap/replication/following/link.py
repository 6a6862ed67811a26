"""One link of a replica to the node that it follows: two sockets, and what comes by them.

`subscriber` makes one after the other; the rules say what to do with what arrives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from synap.errors import HandshakeFailed, LinkLost
from synap.replication.rules import messages
from synap.replication.rules.follower import Follower
from synap.replication.rules.pace import Pace
from synap.replication.transport.curve import Keys, MasterKeys
from synap.replication.transport.handshakes import FailedHandshake
from synap.replication.transport.sockets import Endpoint, Sockets


class Link:
    """One pair of sockets, from their connecting to their end.

    Attributes:
        hint: Why nothing may be heard, where a handshake told; empty otherwise.
        wants_other_key: The link failed because the master has another key than the current one.
        has_heard_nothing: Not one message has come, nor a handshake that failed.
    """

    def __init__(
        self,
        follower: Follower,
        show: Callable[[], None],
        wake: Callable[[], None],
        note_handshake: Callable[[FailedHandshake], None],
        master_keys: MasterKeys,
    ) -> None:
        """
        Args:
            follower: Decides what to do with what arrives.
            show: Called when that may have changed the status.
            wake: Called when the link has failed; the next `tick` says why.
            note_handshake: Told of each that failed.
            master_keys: The master's key is the current one of these, or another one.
        """
        self.hint = ""
        self.wants_other_key = False
        self.has_heard_nothing = True
        self._note_handshake = note_handshake
        self._master_keys = master_keys
        self._follower = follower
        self._show = show
        self._wake = wake
        self._failure: Exception | None = None
        self._sockets: Sockets | None = None
        self._pace = Pace()
        self._gathering: asyncio.TimerHandle | None = None

    def open(
        self,
        stream_address: str,
        sync_address: str,
        buffer_bytes: int,
        keys: Keys | None,
        *,
        is_ipv6: bool,
    ) -> None:
        """Connect.

        Args:
            is_ipv6: Whether names stand for addresses of IPv6.

        Raises:
            ReplicationError: An address can't be used.
        """
        self._sockets = Sockets(buffer_bytes, keys, self._handshake_failed, self._was_cut)
        self._follower.connect(time.monotonic_ns())
        key = self._master_keys.current
        self._sync: Endpoint = self._sockets.connect_sync(
            sync_address, partial(self._take, self._receive), self._settle_in_time, key,
            is_ipv6=is_ipv6,
        )  # fmt: skip
        self._stream: Endpoint = self._sockets.connect_stream(
            stream_address, partial(self._take, self._hear), self._settle_in_time, key,
            is_ipv6=is_ipv6,
        )  # fmt: skip
        self._sockets.keep_doors()

    def tick(self) -> None:
        """Look at the clock, after everything at hand was read: a held-up loop is no silence.

        Raises:
            ReplicationError: The link has failed.
            SynapError: The log has.
        """
        self._stream.drain()
        self._sync.drain()
        if self._failure is not None:
            raise self._failure
        self._follower.tick(time.monotonic_ns())
        self._flush()
        self._show()

    def send_soon(self) -> None:
        """Send what the follower wants to say now; nothing where the link is down."""
        self._guard(self._flush)

    def close(self) -> None:
        """Drop both sockets."""
        self._stop_gathering()
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    def _handshake_failed(self, failed: FailedHandshake) -> None:
        self._note_handshake(failed)
        self.has_heard_nothing = False
        if self._failure is not None:
            return
        self.hint = failed.reason
        self.wants_other_key = failed.is_other_key and self._master_keys.has_others
        if failed.is_final or self.wants_other_key:
            self.hint = ""
            self._failure = HandshakeFailed(failed.reason)
            self._wake()

    def _was_cut(self, why: str) -> None:
        if self._failure is None:
            self._failure = LinkLost(f"the master was cut off: {why}")
            self._wake()

    def _take(self, handle: Callable[[list[bytes], int], None], parts: list[bytes], _: str) -> None:
        self.hint = ""
        self.has_heard_nothing = False
        self._guard(partial(handle, parts, time.monotonic_ns()))

    def _hear(self, parts: list[bytes], now_ns: int) -> None:
        self._follower.hear(*messages.stream.decode(parts), now_ns)

    def _receive(self, parts: list[bytes], now_ns: int) -> None:
        self._follower.receive(*messages.answers.decode(parts), now_ns)

    def _settle_in_time(self) -> None:
        """Settle now, or when enough was gathered; what the master waits for leaves at once.

        What the stream brings meanwhile is read when that time is over, all at once.
        """
        wait_seconds = self._pace.wait_seconds(time.monotonic())
        if self._follower.outbox or not wait_seconds:
            self._settle()
        elif self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(wait_seconds, self._settle)
            self._stream.pause()

    def _settle(self) -> None:
        if self._stop_gathering():
            self._stream.read()
        began = time.monotonic()
        self._guard(self._settle_all)
        self._pace.appended(began, time.monotonic())

    def _stop_gathering(self) -> bool:
        """Read what comes again; return whether it had to wait."""
        if self._gathering is None:
            return False
        self._gathering.cancel()
        self._gathering = None
        self._stream.resume()
        return True

    def _settle_all(self) -> None:
        if self._follower.settle(time.monotonic_ns()):
            asyncio.get_running_loop().call_soon(self._settle)
        self._flush()
        self._show()

    def _flush(self) -> None:
        outbox = self._follower.outbox
        for request in outbox:
            self._sync.send(messages.encode(request))
        outbox.clear()

    def _guard(self, step: Callable[[], None]) -> None:
        # A callback of the loop has nobody to raise to, so `tick` does it.
        if self._failure is not None or self._sockets is None:
            return
        try:
            step()
        except Exception as error:
            self._failure = error
            self._wake()
