"""The fail-over agent's process: a node's third child, where `failover.engine` is set.

Thin: it builds the agent. `python -m workers.failover`, configured by the environment.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from synap.config.failover import lease_margin
from synap.failover.agent import Agent, AgentOptions
from synap.failover.etcd import Etcd
from synap.failover.home import Home
from synap.login_environment import PASSWORD, USER
from synap.node.paths import NodePaths
from synap.replication.rules.reigns import Rank
from workers.cli import http_call
from workers.process import EXIT_CLEAN, run

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)


class HttpMembers:
    """The other nodes, by their HTTP API."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def seal(self, url: str, epoch: int, candidate: str) -> Rank:
        """Have a node promise an epoch; raise OSError where it does not."""
        body = {"epoch": epoch, "candidate": candidate}
        return Rank(*http_call.post(url, "/replication/seal", body, self._seconds)["rank"])

    def offset(self, url: str) -> int:
        """Return where a node's log ends; raise OSError where it does not answer."""
        facts = http_call.get(url, "/health/replication", self._seconds)
        return int(facts["local_offset"])


def engine_of(config: Config) -> Etcd:
    """Return the client of the configured engine.

    Raises:
        OSError: a certificate can't be used.
    """
    failover, tls = config.failover, config.failover.tls
    context = ssl.create_default_context(cafile=tls.ca_path)
    if tls.cert_path is not None:
        context.load_cert_chain(tls.cert_path, tls.key_path)
    password = failover.password.get_secret_value() if failover.password is not None else ""
    return Etcd(
        failover.endpoints, failover.retry_secs, tls=context, user=failover.user or "",
        password=password,
    )  # fmt: skip


def serve(config: Config) -> int:
    """Take part in the cluster's elections until SIGTERM or SIGINT, and hand over.

    Returns:
        The exit code.
    """
    failover, paths = config.failover, NodePaths.of(config)
    if config.auth.enabled and config.auth.root.password is not None:
        # Other nodes are asked as the root user, whom all of them know.
        os.environ[USER] = config.auth.root.username
        os.environ[PASSWORD] = config.auth.root.password.get_secret_value()
    options = AgentOptions(
        failover.cluster, failover.ttl_secs, lease_margin, failover.loop_secs,
        failover.max_lag_entries,
    )  # fmt: skip

    def tell(state: bytes) -> None:
        show(paths.failover_file, state)

    agent = Agent(engine_of(config), Home(config), HttpMembers(failover.retry_secs), options, tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run()
    return EXIT_CLEAN


def show(path: Path, state: bytes) -> None:
    """Have the node's other processes see the state; in memory, so nothing is synced."""
    try:
        part = path.with_suffix(".new")
        part.write_bytes(state)
        part.replace(path)
    except OSError as error:
        logger.warning("%s can't be written: %s", path, error, extra={"action": "failover"})


def main() -> int:
    """Run the process and return its exit code."""
    return run("failover", serve)


if __name__ == "__main__":
    sys.exit(main())
