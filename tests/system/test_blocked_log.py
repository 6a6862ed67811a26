"""A node whose standard error nobody reads: a full pipe stops nothing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import (
    PARENT_VARIABLE,
    Node,
    child_environment,
    children_of,
    eventually,
    fill_pipe,
)


class MuteNode(Node):
    """A node whose log goes into a pipe that is full before the node starts."""

    def launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.reader, writer = os.pipe()
        fill_pipe(writer)
        environment = child_environment(os.environ, None, self.settings)
        environment[PARENT_VARIABLE] = ""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.main", "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            process_group=0,
        )
        os.close(writer)


def test_node_with_a_blocked_log_starts_serves_restarts_its_processes_and_stops(
    tmp_path: Path,
) -> None:
    settings = {"logging__access": True, "logging__slow_ms": 1, "logging__level": "debug"}
    node = MuteNode(tmp_path, "mute", settings)
    try:
        node.start()
        assert node.request("POST", "/kv/set", {"key": "a", "value": 1}).status == 200
        worker, owner = children_of(node.http_pid())[0], node.owner_pid()
        os.kill(worker, signal.SIGKILL)
        os.kill(owner, signal.SIGKILL)
        eventually(lambda: set(children_of(node.http_pid())) - {worker})
        eventually(lambda: node.owner_pid() not in (0, owner))
        eventually(node.is_healthy)
        assert node.request("GET", "/kv/get/a").json() == "1"
        assert node.stop() == 0
        assert os.read(node.reader, select.PIPE_BUF) == b"x" * select.PIPE_BUF
    finally:
        node.kill()
        os.close(node.reader)
