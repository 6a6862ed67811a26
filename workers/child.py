"""One supervised child process, when it is started again, and whether it is still alive."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What a child is.

    Attributes:
        name: For the log.
        command: What to execute.
        environment: The whole environment.
        files: Descriptors that it has open too, under the same numbers.
        stop_seconds: How long it may take to end after SIGTERM.
        stop_stage: Children of a lower stage are stopped before those of a higher one.
        forwards: Signals that the supervisor passes on to it.
        may_reload: Asked before SIGHUP is passed on, which a child with a faulty configuration
            would not outlive; it says itself why not.
        refusal_codes: Exit codes that say that a restart won't help.
        renewal_codes: Exit codes that ask for the next start at once, and are no failure.
        renew: Tells before each start what the child is by now; None where that never changes.
        on_death: Called with the exit code when it has died, and is to be started again.
        gives_up: Whether too many early deaths end the node; else it is tried again for ever, ever
            more slowly.
        tick_ns: Tells for a pid when that process last showed life (CLOCK_MONOTONIC); 0 where it
            has not begun to. A child without one counts as alive while it runs.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: tuple[int, ...] = ()
    stop_seconds: float = 10.0
    stop_stage: int = 0
    forwards: frozenset[signal.Signals] = frozenset()
    may_reload: Callable[[], bool] | None = None
    refusal_codes: frozenset[int] = frozenset()
    renewal_codes: frozenset[int] = frozenset()
    renew: Callable[[], ChildSpec] | None = None
    tick_ns: Callable[[int], int] | None = None
    on_death: Callable[[int], None] | None = None
    gives_up: bool = True


@dataclass(slots=True)
class RestartPolicy:
    """How soon a child that died is started again, and when to give up.

    A child that ran for `stable_seconds` is started again at once and its past is forgotten. One
    that dies sooner waits `first_seconds`, doubling up to `cap_seconds`, but for the first time.

    Attributes:
        limit: Give up at this many early deaths within `window_seconds`; 0 for never.
        patient_seconds: The longest wait of a child that is not given up.
    """

    stable_seconds: float = 2.0
    first_seconds: float = 0.1
    cap_seconds: float = 1.0
    limit: int = 25
    window_seconds: float = 60.0
    patient_seconds: float = 10.0
    _early_deaths: list[float] = field(default_factory=list)

    def never_give_up(self) -> None:
        """Go on for ever, with longer waits."""
        self.limit = 0
        self.cap_seconds = self.patient_seconds

    def delay_after(self, started: float, now: float) -> float | None:
        """Return the seconds to wait after a death at `now`, or None for giving up."""
        if now - started >= self.stable_seconds:
            self._early_deaths.clear()
            return 0.0
        self._early_deaths = [at for at in self._early_deaths if now - at < self.window_seconds]
        self._early_deaths.append(now)
        count = len(self._early_deaths)
        if self.limit and count >= self.limit:
            return None
        return 0.0 if count == 1 else min(self.cap_seconds, self.first_seconds * 2.0 ** (count - 2))


@dataclass(slots=True)
class Liveness:
    """Tells when a process has shown no life for `limit_seconds`.

    The time is summed up from look to look, each counting for `longest_step_seconds` at most: a
    machine or container that was paused is not a child that went mute.
    """

    limit_seconds: float = 30.0
    longest_step_seconds: float = 1.0
    _tick_ns: int = 0
    _looked: float = 0.0
    _mute_seconds: float = 0.0

    def is_mute(self, tick_ns: int, now: float) -> bool:
        """Return whether `tick_ns`, as seen at `now`, has stood still for too long."""
        step = min(now - self._looked, self.longest_step_seconds)
        self._looked = now
        if tick_ns != self._tick_ns or tick_ns == 0:
            self._tick_ns = tick_ns
            self._mute_seconds = 0.0
        else:
            self._mute_seconds += step
        return self._mute_seconds >= self.limit_seconds


class Child:
    """A process made from a `ChildSpec`; it may run, be dead, or wait for its next start."""

    def __init__(self, spec: ChildSpec, policy: RestartPolicy, liveness: Liveness) -> None:
        self.spec = spec
        self.policy = policy
        if not spec.gives_up:
            policy.never_give_up()
        self._liveness = liveness
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.start_at: float | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process id while it runs, else 0."""
        return self._process.pid if self._process else 0

    def start(self, now: float) -> None:
        """Start it, in a process group of its own: a terminal's Ctrl-C is the supervisor's."""
        self.start_at = None
        self.started = now
        if self.spec.renew is not None:
            self.spec = self.spec.renew()
        self._process = subprocess.Popen(
            self.spec.command,
            env=self.spec.environment,
            stdin=subprocess.DEVNULL,
            pass_fds=self.spec.files,
            process_group=0,
        )

    def reap(self) -> int | None:
        """Return the exit code, once, where it has ended; a signal's number is negative."""
        code = self._process.poll() if self._process else None
        if code is not None:
            self._process = None
        return code

    def is_mute(self, now: float) -> bool:
        """Whether it runs but has shown no life for too long."""
        if self.spec.tick_ns is None or not self.is_running:
            return False
        return self._liveness.is_mute(self.spec.tick_ns(self.pid), now)

    def forward(self, number: signal.Signals) -> None:
        """Pass on a signal that the supervisor got, if it is one for this child."""
        if number not in self.spec.forwards:
            return
        may_reload = self.spec.may_reload
        if number != signal.SIGHUP or may_reload is None or may_reload():
            self.send(number)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None:
            # `Popen.send_signal` would collect one that has just ended, unseen by who waits for it.
            # The pid is its own until `reap`.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
