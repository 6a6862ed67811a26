"""Signals as values: a handler that does nothing, and a place to wait for their numbers."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from types import FrameType


class SignalInbox:
    """Collects `signals` from `__enter__` to `__exit__`; for the main thread alone.

    The interpreter writes the number of each signal into a socket, so that none is lost between
    two looks and a wait ends at once when one arrives.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._signals = tuple(signals)

    def __enter__(self) -> SignalInbox:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._old_descriptor = signal.set_wakeup_fd(
            self._sender.fileno(), warn_on_full_buffer=False
        )
        self._old_handlers = {number: signal.signal(number, _ignore) for number in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_descriptor)
        self._receiver.close()
        self._sender.close()

    def wait(self, timeout_seconds: float) -> list[signal.Signals]:
        """Return the signals that arrived, in order; none where the time passed without one."""
        if not select.select([self._receiver], [], [], max(0.0, timeout_seconds))[0]:
            return []
        return [signal.Signals(number) for number in self._receiver.recv(4096)]


def _ignore(number: int, frame: FrameType | None) -> None:
    """Let the wakeup descriptor do the work."""
