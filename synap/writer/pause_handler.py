"""What is asked of a writer for a change of role: to pause, to go on, to give up its reign.

Source: docs/protocol.md, "Switchover".
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from synap.errors import NotPaused, Recovering, ReignEnded
from synap.ipc.admin_messages import PauseCommand, PauseState, PauseWrites, StepDown
from synap.node.data_dir import DataDir
from synap.writer.pause import Pause
from synap.writer.write_gate import WriteGate

logger = logging.getLogger(__name__)


class PauseHandler:
    """Begins and ends a writer's pause. All methods belong to the writer's loop."""

    def __init__(
        self,
        pause: Pause,
        gate: WriteGate,
        data_dir: DataDir,
        *,
        on_change: Callable[[], None],
        run_turn: Callable[[], None],
    ) -> None:
        """
        Args:
            pause: The writes'; its times are those of `time.monotonic`.
            gate: Where the reign ends.
            data_dir: The writer's.
            on_change: Called after the pause began or ended.
            run_turn: Called when what waits may go on, or is to be refused.
        """
        self._pause = pause
        self._gate = gate
        self._data_dir = data_dir
        self._on_change = on_change
        self._run_turn = run_turn
        self._timers: list[asyncio.TimerHandle] = []

    def handle(self, command: PauseCommand) -> PauseState:
        """Pause the writes, end a pause, or give up the reign in one.

        Raises:
            ReignEnded: this master takes no writes as it is.
            NotPaused: it can't step down so.
        """
        now = time.monotonic()
        reign = self._data_dir.node.reign
        assert reign is not None, "a node without a reign has no writer"
        if isinstance(command, PauseWrites):
            self._begin(now, command.seconds)
        elif isinstance(command, StepDown):
            self._step_down(now, command, reign.epoch + 1)
        else:
            self._end()
        left = max(0.0, self._pause.ends_at - now)
        return PauseState(self._data_dir.position.offset, reign.epoch, left)

    def stop(self) -> None:
        """Look at no pause's end any more; twice does no harm."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _begin(self, now: float, seconds: float) -> None:
        if self._gate.ended_by_epoch:
            raise ReignEnded(self._gate.ended_by_epoch)
        if self._data_dir.is_recovering:
            raise Recovering
        pause = self._pause
        pause.begin(now, seconds)
        self.stop()
        loop = asyncio.get_running_loop()
        self._timers += [
            loop.call_later(pause.ends_at - now, self._end),
            loop.call_later(pause.holds_until - now, self._end_hold),
        ]
        logger.warning(
            "writes pause for %g s at most, at offset %d", seconds, self._data_dir.position.offset,
            extra={"action": "writes_paused"},
        )  # fmt: skip
        self._on_change()

    def _end_hold(self) -> None:
        self._pause.end_hold()
        self._run_turn()

    def _end(self) -> None:
        self._pause.end()
        logger.warning("writes no longer pause", extra={"action": "writes_resumed"})
        self._on_change()
        self._run_turn()

    def _step_down(self, now: float, command: StepDown, epoch: int) -> None:
        offset, held = command.offset, self._data_dir.position.offset
        if not self._pause.is_on(now) or offset != held:
            raise NotPaused(
                f"writes do not pause at offset {offset} (the log ends at {held}); nothing was "
                "changed, pause them first"
            )
        if not self._gate.ended_by_epoch:
            self._data_dir.node.end_reign(epoch)
            logger.warning(
                "this master steps down at offset %d, for epoch %d", offset, epoch,
                extra={"action": "stepped_down", "epoch": epoch, "offset": offset},
            )  # fmt: skip
            self._gate.end_reign(epoch, command.heir_url)
