"""The sweeper: removes expired keys while nobody asks for them, and keeps the memory limit then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from synap.errors import DiskFull, MemoryLimit
from synap.eviction.evictor import Evictor, Removal
from synap.node.data_dir import DataDir
from synap.writer.write_gate import WriteGate

# Expired keys are removed at most so many at a time; clients' writes go between.
SWEEP_KEYS = 1000


class Sweeper:
    """Removes a bite at a time. All methods belong to the loop that `start` was called on."""

    def __init__(
        self,
        data_dir: DataDir,
        gate: WriteGate,
        evictor: Evictor | None,
        *,
        remove: Callable[[Removal, int], None],
        forget: Callable[[int], bool],
        on_failure: Callable[[BaseException], None],
        interval_ms: int,
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            data_dir: The writer's.
            gate: Where it is closed, nothing is removed.
            evictor: Keeps the memory limit; None without one.
            remove: Logs a removal, given it and the wall clock in ms.
            forget: Removes records of requests whose time is over, given the wall clock in ms;
                returns whether it is to be called again soon.
            on_failure: Called once with an error after which nothing more can be logged.
            interval_ms: Time between two looks for expired keys.
            clock: Wall clock in seconds.
        """
        self._data_dir = data_dir
        self._gate = gate
        self._evictor = evictor
        self._remove = remove
        self._forget = forget
        self._on_failure = on_failure
        self._interval_seconds = interval_ms / 1000
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._sweep()

    def stop(self) -> None:
        """End; twice does no harm."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        delay = self._interval_seconds
        if self._gate.refusal() is None:
            try:
                if self._remove_a_bite():
                    delay = 0.0
            except (DiskFull, MemoryLimit) as error:
                self._gate.refuse(error)
            except Exception as error:
                self._on_failure(error)
                return
        self._timer = self._loop.call_later(delay, self._sweep)

    def _remove_a_bite(self) -> bool:
        """Remove some of what has expired, or of what the memory limit wants gone.

        Returns:
            Whether there is more.
        """
        # Before it is looked at what is due: the log may have renewed it.
        self._data_dir.replay_rest()
        now_ms = int(self._clock() * 1000)
        evictor = self._evictor
        removal = Removal(self._data_dir.store.due(now_ms, SWEEP_KEYS))
        is_unfinished = len(removal.expired) == SWEEP_KEYS
        if evictor is not None:
            is_unfinished |= evictor.rest()
            if evictor.is_tight and not removal:
                removal = evictor.before_turn(now_ms)
        if removal:
            self._remove(removal, now_ms)
        is_unfinished |= self._forget(now_ms)
        if evictor is not None:
            self._gate.show_memory(evictor.is_refusing)
        return is_unfinished
