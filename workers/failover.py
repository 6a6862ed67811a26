"""The fail-over agent's process: a node's third child, where `failover.engine` is set.

Thin: it builds the agent. `python -m workers.failover`, configured by the environment.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from synap.config.failover import lease_margin
from synap.failover.agent import Agent
from synap.failover.engine import Engine
from synap.failover.etcd import Etcd
from synap.failover.hold import AgentOptions
from synap.failover.home import Home
from synap.failover.kubernetes import POD_ENDPOINT, POD_FOLDER, Kubernetes
from synap.failover.rules import Member, Standing
from synap.login_environment import PASSWORD, USER
from synap.node.paths import NodePaths
from synap.replication.rules.reigns import Rank
from workers.cli import http_call
from workers.process import EXIT_CLEAN, run

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)

_THREADS = 16


class HttpMembers:
    """The other nodes, by their HTTP API."""

    def __init__(self, seconds: float, seal_seconds: float) -> None:
        """
        Args:
            seconds: Deadline of a call that reads.
            seal_seconds: Deadline of a promise, which is on a disk before it is told.
        """
        self._seconds = seconds
        self._seal_seconds = seal_seconds

    def seals(self, voters: Sequence[Member], epoch: int, candidate: str) -> list[Standing]:
        """Have nodes promise an epoch, all at once; return what those hold that do."""
        body = {"epoch": epoch, "candidate": candidate}

        def ask(member: Member) -> Standing | None:
            try:
                kept = http_call.post(member.url, "/replication/seal", body, self._seal_seconds)
                return Standing(member.id, Rank(*kept["rank"]))
            except OSError as error:
                logger.warning("%s", error, extra={"action": "not_sealed"})
                return None

        with ThreadPoolExecutor(_THREADS) as threads:
            return [each for each in threads.map(ask, voters) if each is not None]

    def offset(self, url: str) -> int:
        """Return where a node's log ends; raise OSError where it does not answer."""
        facts = http_call.get(url, "/health/replication", self._seconds)
        return int(facts["local_offset"])


def engine_of(config: Config, *, takes_part: bool = False) -> Engine:
    """Return the client of the configured engine.

    Args:
        config: A node's.
        takes_part: It is for that node's agent, and not for a command.

    Raises:
        OSError: a certificate or a pod's file can't be used.
    """
    failover, tls = config.failover, config.failover.tls
    is_in_pod = failover.engine == "kubernetes" and not failover.endpoints
    ca_path = tls.ca_path or (POD_FOLDER / "ca.crt" if is_in_pod else None)
    context = ssl.create_default_context(cafile=ca_path)
    if tls.cert_path is not None:
        context.load_cert_chain(tls.cert_path, tls.key_path)
    if failover.engine == "kubernetes":
        return Kubernetes(
            failover.endpoints[0] if failover.endpoints else POD_ENDPOINT,
            failover.namespace or (POD_FOLDER / "namespace").read_text().strip(),
            failover.cluster, failover.retry_secs,
            node=config.server.node_id if takes_part else "",
            token_path=failover.token_path or (POD_FOLDER / "token" if is_in_pod else None),
            tls=context,
        )  # fmt: skip
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

    engine = engine_of(config, takes_part=True)
    # The other half of what counts of a lease is for the rest of a promotion.
    half_seconds = (failover.ttl_secs - lease_margin(failover.ttl_secs)) / 2
    members = HttpMembers(failover.retry_secs, max(failover.retry_secs, half_seconds))
    agent = Agent(engine, Home(config), members, options, tell)
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
