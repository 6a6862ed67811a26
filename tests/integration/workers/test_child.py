"""A real child process, as its supervisor sees it."""

from __future__ import annotations

import os
import signal
import sys

from workers.child import Child, ChildSpec, Liveness, RestartPolicy


def test_child_that_ended_just_before_a_signal_is_still_reaped() -> None:
    command = (sys.executable, "-c", "raise SystemExit(4)")
    child = Child(ChildSpec("brief", command, dict(os.environ)), RestartPolicy(), Liveness())
    child.start(0.0)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.send(signal.SIGTERM)
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    assert child.reap() == 4
    assert not child.is_running
