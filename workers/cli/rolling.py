"""Restarting a whole cluster node by node, as for another version, while it serves.

    1  the cluster is well, every node of it known
    2  one replica after the other, those furthest from the master first: restarted, then awaited
       until it has all that the master has
    3  the master moves to a restarted replica; where agents run, a master that stops hands over
    4  the old master is restarted and awaited as a replica

Between two nodes everything must be well again; where it is not in time, it stops there, and the
others run on as they are. Run again, it begins anew, and leaves alone what runs the wanted version.

How a node is restarted is the operator's to say; the engine knows nodes by their HTTP API alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workers.cli.cluster_status import ClusterStatus, NodeStatus
from workers.cli.http_call import CallFailed

_LOOK_SECONDS = 0.2
_ANSWER_SECONDS = 5.0


class RollingFailed(Exception):
    """It stopped; the message says at which node, and why."""


class Get(Protocol):
    """A call to a node. `workers.cli.http_call.get` is one."""

    def __call__(self, url: str, path: str, timeout_seconds: float) -> dict[str, Any]:
        """Return the answer to a GET; raise CallFailed without one."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What is done to the cluster, by others.

    Attributes:
        look: Returns how the cluster stands.
        get: Asks a node.
        restart: Restarts a node; returns when that was asked for.
        move_master: Makes the replica of that name the master, with no write lost.
    """

    look: Callable[[], ClusterStatus]
    get: Get
    restart: Callable[[NodeStatus], None]
    move_master: Callable[[str], None]


class Rolling:
    """One round through a cluster."""

    def __init__(
        self,
        hands: Hands,
        *,
        version: str,
        patience_seconds: float,
        tell: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            hands: Do what is to be done.
            version: What each node is to run afterwards; empty for whatever it comes back with.
            patience_seconds: How long a node may take to come back and be well.
            tell: Gets a sentence for each step.
        """
        self._hands = hands
        self._version = version
        self._patience_seconds = patience_seconds
        self._tell = tell
        self._now = now
        self._sleep = sleep

    def run(self) -> int:
        """Restart every node; return how many were.

        Raises:
            RollingFailed: something is not well.
            CallFailed: a node does not answer.
        """
        nodes = self._await_well("before it begins")
        master = next(each for each in nodes if each.role != "replica")
        replicas = [each for each in nodes if each.role == "replica"]
        done = 0
        for node in sorted(replicas, key=lambda each: -(each.hops or 1)):
            done += self._renew(node)
        if not self._is_wanted(master):
            self._hand_over(master, replicas)
            done += self._renew(master)
        return done

    def _hand_over(self, master: NodeStatus, replicas: Sequence[NodeStatus]) -> None:
        agents = self._hands.get(master.url, "/cluster", _ANSWER_SECONDS).get("failover")
        if agents is not None and not agents.get("is_paused"):
            self._tell("agents run: the master hands over when it stops")
            return
        # Who follows relays never voted.
        heirs = [each for each in replicas if (each.hops or 1) == 1]
        if not heirs:
            self._tell(f"{master.node} has no replica: writes are away while it is restarted")
            return
        heir = min(heirs, key=lambda each: each.lag_ms or 0)
        self._hands.move_master(heir.node)
        self._tell(f"{heir.node} is the master")
        self._await_well(f"after the master moved to {heir.node}")

    def _renew(self, node: NodeStatus) -> int:
        """Restart a node and wait for it; return 1, or 0 where nothing was to be done."""
        if self._is_wanted(node):
            self._tell(f"{node.node} runs {self._version} already")
            return 0
        began = self._now()
        self._hands.restart(node)
        self._await_restart(node, began)
        self._await_well(f"after {node.node} was restarted")
        version = self._server(node)["version"]
        if self._version and version != self._version:
            raise RollingFailed(f"{node.node} came back with version {version}: stopped there")
        self._tell(f"{node.node} is back, version {version}, after {self._now() - began:.1f} s")
        return 1

    def _await_restart(self, node: NodeStatus, began: float) -> None:
        while True:
            try:
                # A second more: what it tells is rounded.
                if self._server(node)["uptime_seconds"] <= self._now() - began + 1:
                    return
            except CallFailed:
                pass
            self._wait(began, f"{node.node} was not restarted, or does not come back")

    def _await_well(self, when: str) -> list[NodeStatus]:
        began = self._now()
        while True:
            try:
                found = self._hands.look()
                faults = _faults(found)
            except CallFailed as error:
                faults = [str(error)]
            if not faults:
                return found.nodes
            self._wait(began, f"the cluster is not well {when}: {'; '.join(faults)}")

    def _is_wanted(self, node: NodeStatus) -> bool:
        return bool(self._version) and self._server(node)["version"] == self._version

    def _server(self, node: NodeStatus) -> dict[str, Any]:
        told: dict[str, Any] = self._hands.get(node.url, "/stats", _ANSWER_SECONDS)["server"]
        return told

    def _wait(self, began: float, why: str) -> None:
        if self._now() - began > self._patience_seconds:
            raise RollingFailed(f"{why}; the nodes after it were left as they are")
        self._sleep(_LOOK_SECONDS)


def _faults(found: ClusterStatus) -> list[str]:
    """Return what keeps a cluster from losing a node for a moment; nothing where it is well."""
    masters = [row for row in found.nodes if row.role != "replica" and row.is_well]
    faults = [
        f"{row.node or row.url} is {row.state or 'unknown'}"
        for row in found.nodes
        if not row.is_well
    ]
    if len(masters) != 1 and not faults:
        faults.append(f"{len(masters)} nodes take writes")
    if found.unknown:
        faults.append(f"not known here: {found.unknown}")
    return faults
