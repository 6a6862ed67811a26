"""A whole cluster on this machine, in the foreground: one master and its replicas.

The nodes are `node1`, `node2`, …, for any of them may become the master. Each is a `synap serve` of
its own, under the same supervisor that a node uses for its processes. For trying Synap out and for
tests; in production each machine runs its own node.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from synap.config.loading import load_config
from synap.config.variables import SECRET_FILE_SUFFIX, variable_of
from synap.errors import ConfigInvalid, StartError
from synap.replication.transport.curve import make_cluster_secret
from workers.child import ChildSpec
from workers.log_output import queued_logging
from workers.ports import check_ports
from workers.process import EXIT_REFUSED, child_environment, die_with_parent, python_command
from workers.supervisor import Supervisor

HOST = "127.0.0.1"
_PORTS_PER_NODE = 10
# With what its supervisor needs to end, everything is gone within ten seconds of a Ctrl-C.
_NODE_STOP_SECONDS = 8.0
_HEALTH_SECONDS = 0.5
# Between two nodes that are asked for their role while all run.
_LOOK_SECONDS = 0.5
_MASTER = "master"
# In the cluster's data folder, unless the configuration says how members are known.
_SECRET_NAME = "replication.secret"


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What a cluster is to be.

    Attributes:
        replicas: Number of replicas.
        data_dir: Folder of the nodes' data directories: `node1`, `node2`, …
        base_port: The first node's HTTP; PUB and ROUTER follow it. Each further one has ten more.
        workers: Gunicorn workers of each node.
        log_level: Least severe record that the nodes write.
    """

    replicas: int
    data_dir: Path
    base_port: int
    workers: int
    log_level: str


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One node of the plan."""

    name: str
    port: int
    overrides: Mapping[str, Any]


def planned_nodes(plan: ClusterPlan) -> list[PlannedNode]:
    """Return the nodes; the first one is the master where nobody was promoted since.

    Raises:
        ConfigInvalid: The ports don't fit below 65536.
    """
    last_port = plan.base_port + _PORTS_PER_NODE * plan.replicas + 2
    if not 1 <= plan.base_port <= last_port <= 65535:
        raise ConfigInvalid(
            [f"--base-port = {plan.base_port}: ports up to {last_port} must fit into 1 to 65535"]
        )
    names = _names(plan)
    return [_planned_node(plan, number, names[number]) for number in range(plan.replicas + 1)]


def run_cluster(plan: ClusterPlan, console: Console) -> int:
    """Run the cluster until it is told to stop, and return the exit code.

    What the environment and SYNAP_CONFIG say beyond the plan holds for every node.

    Raises:
        StartError: A port is in use or the plan is not possible.
    """
    die_with_parent()
    nodes = planned_nodes(plan)
    check_ports(_addresses(nodes), "choose another --base-port", wait_seconds=0.0)
    for node in nodes:
        load_config(None, node.overrides)
    config = load_config(None, {**nodes[0].overrides, "server.node_id": "cluster"})
    environ: Mapping[str, str] = os.environ
    if not config.replication.proves_membership:
        variable = variable_of("replication.secret") + SECRET_FILE_SUFFIX
        environ = {**os.environ, variable: str(_own_secret(plan.data_dir.absolute()))}
    with queued_logging(config, "supervisor"):
        supervisor = Supervisor(
            [_child_of(node, environ) for node in nodes],
            on_look=Announcement(nodes, console, _role_where_healthy),
        )
        code = supervisor.run()
    console.print("Stopped.")
    return code


class Announcement:
    """Says where the nodes listen, and which one is the master; called at every look.

    The first words come when all of them are healthy, others whenever the master changes.
    """

    def __init__(
        self,
        nodes: list[PlannedNode],
        console: Console,
        role_of: Callable[[int], str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            nodes: Those that run.
            console: Where the words go.
            role_of: Tells the role of the node at a port; empty where it is not healthy.
            now: Monotonic clock in seconds.
        """
        self._nodes = nodes
        self._waiting = list(nodes)
        self._roles: dict[str, str] = {}
        self._console = console
        self._role_of = role_of
        self._now = now
        self._next_look = 0.0
        self._next_node = 0

    def __call__(self) -> None:
        if not self._waiting:
            self._look_for_a_change()
            return
        for node in self._waiting:
            if role := self._role_of(node.port):
                self._roles[node.name] = role
        self._waiting = [node for node in self._waiting if node.name not in self._roles]
        if not self._waiting:
            words = _welcome(self._nodes, self._roles)
            self._console.print(words, soft_wrap=True, highlight=False)

    def _look_for_a_change(self) -> None:
        """Ask one node, now and then: the supervisor waits for the answer."""
        if self._now() < self._next_look:
            return
        self._next_look = self._now() + _LOOK_SECONDS
        node = self._nodes[self._next_node]
        self._next_node = (self._next_node + 1) % len(self._nodes)
        role = self._role_of(node.port) or self._roles[node.name]
        if role != self._roles[node.name] and role == _MASTER:
            words = f"{node.name} is the master now; write to {_url_of(node)}"
            self._console.print(words, soft_wrap=True, highlight=False)
        self._roles[node.name] = role


def _role_where_healthy(port: int) -> str:
    """Return a node's role; empty where it is not healthy yet."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_HEALTH_SECONDS)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        role = json.loads(answer.read()).get("role", "")
        return str(role) if answer.status == http.HTTPStatus.OK else ""
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()


def _welcome(nodes: list[PlannedNode], roles: Mapping[str, str]) -> str:
    """Return where the nodes are, each by what it is now: a promotion outlives a restart."""
    master = next((node for node in nodes if roles.get(node.name) == _MASTER), nodes[0])
    reader = next((node for node in reversed(nodes) if node is not master), master)
    lines = [
        *(_line_of(node, roles.get(node.name, "")) for node in nodes),
        "",
        "Write to the master, read from any node:",
        "",
        f"  curl -X POST {_url_of(master)}/kv/set -H 'Content-Type: application/json' \\",
        """    -d '{"key": "user:100", "value": "Alice", "ttl": 3600}'""",
        f"  curl {_url_of(reader)}/kv/get/user:100",
        "",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def _line_of(node: PlannedNode, role: str) -> str:
    return f"{node.name:10} {role:8} {_url_of(node)}"


def _url_of(node: PlannedNode) -> str:
    return f"http://{HOST}:{node.port}"


def _names(plan: ClusterPlan) -> list[str]:
    """Return the nodes' names, which are those of their folders, too.

    A cluster of before, whose nodes were named by what they began as, keeps its names: nodes know
    each other by them.
    """
    numbers = range(plan.replicas + 1)
    before = [f"replica{number}" if number else "master" for number in numbers]
    names = [f"node{number + 1}" for number in numbers]
    has_both = [any((plan.data_dir / name).is_dir() for name in each) for each in (before, names)]
    return before if has_both == [True, False] else names


def _planned_node(plan: ClusterPlan, number: int, name: str) -> PlannedNode:
    port = plan.base_port + _PORTS_PER_NODE * number
    overrides: dict[str, Any] = {
        "data_dir": plan.data_dir.absolute() / name,
        "server.host": HOST,
        "server.port": port,
        "server.workers": plan.workers,
        "server.node_id": name,
        "server.advertise_url": f"http://{HOST}:{port}",
        "server.drain_delay_ms": 0,
        "replication.role": "replica" if number else "master",
        "replication.replica_listen_address": f"{HOST}:{port + 1}",
        "replication.sync_listen_address": f"{HOST}:{port + 2}",
        "logging.level": plan.log_level,
        "logging.format": "pretty",
    }
    if number:
        overrides["replication.master_address"] = f"{HOST}:{plan.base_port + 1}"
        overrides["replication.master_sync_address"] = f"{HOST}:{plan.base_port + 2}"
    return PlannedNode(name, port, overrides)


def _own_secret(data_dir: Path) -> Path:
    """Return the file of the cluster's secret, which is made where there is none."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"{data_dir} can't be made: {error.strerror}") from error
    path = data_dir / _SECRET_NAME
    make_cluster_secret(path)
    return path


def _child_of(node: PlannedNode, environ: Mapping[str, str]) -> ChildSpec:
    return ChildSpec(
        name=node.name,
        command=python_command("workers.main", "serve"),
        environment=child_environment(environ, None, node.overrides),
        stop_seconds=_NODE_STOP_SECONDS,
        refusal_codes=frozenset({EXIT_REFUSED}),
    )


def _addresses(nodes: list[PlannedNode]) -> dict[str, str]:
    """Return what the nodes listen on: any of them may be the master, now or later."""
    return {
        f"{what} of {node.name}": address
        for node in nodes
        for what, address in (
            ("HTTP", f"{HOST}:{node.port}"),
            ("PUB", node.overrides["replication.replica_listen_address"]),
            ("ROUTER", node.overrides["replication.sync_listen_address"]),
        )
    }
