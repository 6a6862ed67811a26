"""Keeps a set of processes running: starts them, restarts what dies, stops them in order.

The life of the supervisor is `run`: start, look after the children until told to stop or unable to
go on, stop. It is PID 1 in a container, and reaps whatever its descendants leave behind. It knows
nothing of what the children do: `workers/serve.py` makes a node's and `workers/cluster.py` those
of a cluster.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence

from workers.child import Child, ChildSpec, Liveness, RestartPolicy
from workers.process import EXIT_CLEAN, EXIT_FAILED, EXIT_REFUSED
from workers.signals import SignalInbox

logger = logging.getLogger(__name__)

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_FORWARDED_SIGNALS = frozenset({signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU})
_PR_SET_CHILD_SUBREAPER = 36
# How often it looks without being woken; deaths and signals wake it at once.
_LOOK_SECONDS = 0.25
_REFUSED_STOP_SECONDS = 0.25


class Supervisor:
    """Runs children, which are all started at once: none may need another to be there.

    Args:
        specs: The children.
        policy: Makes each child's rule for restarts.
        liveness: Makes each child's rule for being taken for dead while it runs.
        on_look: Called at every look while all is well; an exit code that it returns ends the run.
        on_stop: Called when a signal says stop.
        stop_delay_seconds: How long the children go on after that; another signal ends it.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        policy: Callable[[], RestartPolicy] = RestartPolicy,
        liveness: Callable[[], Liveness] = Liveness,
        on_look: Callable[[], int | None] | None = None,
        on_stop: Callable[[], None] | None = None,
        stop_delay_seconds: float = 0.0,
    ) -> None:
        self.children = [Child(spec, policy(), liveness()) for spec in specs]
        self._on_look = on_look
        self._on_stop = on_stop
        self._stop_delay_seconds = stop_delay_seconds
        self._exit_code: int | None = None

    def run(self) -> int:
        """Run until a signal stops it or a child can't be kept running; return the exit code."""
        signals = _STOP_SIGNALS | _FORWARDED_SIGNALS | {signal.SIGCHLD}
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with SignalInbox(signals) as inbox:
            now = time.monotonic()
            for child in self.children:
                child.start_at = now
            while self._exit_code is None:
                self._look(time.monotonic())
                if self._exit_code is None:
                    for number in inbox.wait(self._seconds_to_next_look()):
                        self._handle(number)
            if self._exit_code == EXIT_CLEAN:
                self._announce_stop(inbox)
            self._stop(inbox)
        return self._exit_code

    def _handle(self, number: signal.Signals) -> None:
        if number in _STOP_SIGNALS:
            logger.info("stopping on %s", number.name, extra={"action": "stop"})
            self._exit_code = EXIT_CLEAN
        for child in self.children:
            child.forward(number)

    def _look(self, now: float) -> None:
        for child, code in self._reap():
            self._died(child, code, now)
        for child in self.children:
            if child.start_at is not None and child.start_at <= now:
                child.start(now)
                facts = {"action": "start", "pid": child.pid}
                logger.info("started %s", child.spec.name, extra=facts)
            if child.is_mute(now):
                facts = {"action": "kill_mute", "pid": child.pid}
                logger.error("%s shows no life any more; killing it", child.spec.name, extra=facts)
                child.send(signal.SIGKILL)
        if self._on_look is not None and self._exit_code is None:
            self._exit_code = self._on_look()

    def _died(self, child: Child, code: int, now: float) -> None:
        name = child.spec.name
        facts = {"action": "child_died", "exit_code": code}
        if code in child.spec.refusal_codes:
            logger.critical("%s can't run; the node ends. Its reason is above", name, extra=facts)
            self._exit_code = EXIT_REFUSED
            return
        if code in child.spec.renewal_codes:
            logger.info("%s ended to be replaced", name, extra={"action": "renewed"})
            child.start_at = now
            return
        if child.spec.on_death is not None:
            child.spec.on_death(code)
        delay = child.policy.delay_after(child.started, now)
        if delay is None:
            logger.critical(
                "%s died %d times within %.0f s, last with %s; the node ends",
                name,
                child.policy.limit,
                child.policy.window_seconds,
                _words_for(code),
                extra=facts,
            )
            self._exit_code = EXIT_FAILED
            return
        logger.error(
            "%s ended with %s; starting it again in %.1f s",
            name,
            _words_for(code),
            delay,
            extra=facts,
        )
        child.start_at = now + delay

    def _seconds_to_next_look(self) -> float:
        now = time.monotonic()
        starts = [child.start_at - now for child in self.children if child.start_at is not None]
        return min([_LOOK_SECONDS, *starts])

    def _reap(self) -> list[tuple[Child, int]]:
        """Collect every process that ended: the children, and orphans that became ours."""
        died = []
        by_pid = {child.pid: child for child in self.children if child.is_running}
        while (pid := _ended_pid()) is not None:
            child = by_pid.get(pid)
            if child is None:
                os.waitpid(pid, os.WNOHANG)
                continue
            code = child.reap()
            if code is not None:
                died.append((child, code))
        return died

    def _announce_stop(self, inbox: SignalInbox) -> None:
        if self._on_stop is not None:
            self._on_stop()
        end = time.monotonic() + self._stop_delay_seconds
        while (left := end - time.monotonic()) > 0 and any(c.is_running for c in self.children):
            if _STOP_SIGNALS & set(inbox.wait(min(left, _LOOK_SECONDS))):
                return
            self._reap()

    def _stop(self, inbox: SignalInbox) -> None:
        hurried = False
        for stage in sorted({child.spec.stop_stage for child in self.children}):
            group = [child for child in self.children if child.spec.stop_stage == stage]
            for child in group:
                child.send(signal.SIGKILL if hurried else signal.SIGTERM)
            seconds = max(child.spec.stop_seconds for child in group)
            if self._exit_code == EXIT_REFUSED:
                # There is nothing to serve from; what clients still wait for does not come.
                seconds = min(seconds, _REFUSED_STOP_SECONDS)
            deadline = time.monotonic() + seconds
            while self._still_running(group) and time.monotonic() < deadline and not hurried:
                hurried = bool(_STOP_SIGNALS & set(inbox.wait(_LOOK_SECONDS)))
            self._kill(group, inbox)

    def _kill(self, group: list[Child], inbox: SignalInbox) -> None:
        for child in self._still_running(group):
            logger.error(
                "%s did not stop in time; killing it", child.spec.name, extra={"action": "kill"}
            )
            child.send(signal.SIGKILL)
        while self._still_running(group):
            inbox.wait(_LOOK_SECONDS)

    def _still_running(self, group: list[Child]) -> list[Child]:
        self._reap()
        return [child for child in group if child.is_running]


def _ended_pid() -> int | None:
    """Return the pid of a process of ours that has ended and is not collected yet."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended else None


def _words_for(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
