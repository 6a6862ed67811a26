"""The processes of this worker's node, by what they are."""

from __future__ import annotations

import os

from synap.node.procfs import ProcessFacts, children_of, process_facts
from synap.shared.board import BoardView


def worker_pids() -> list[int]:
    """Return the ids of all HTTP workers: what the process that forked this one has forked."""
    return sorted({os.getpid(), *children_of(os.getppid())})


def supervisor(view: BoardView) -> ProcessFacts | None:
    """Return the process that started both HTTP's and the log's; None where none did."""
    server = process_facts(os.getppid())
    owner = process_facts(view.owner_pid) if view.owner_pid else None
    if server is None or owner is None or server.parent_pid != owner.parent_pid:
        return None
    return process_facts(server.parent_pid)


def uptime_seconds(view: BoardView) -> int:
    """Return how long the node is up: its supervisor, or HTTP's process where there is none."""
    first = supervisor(view) or process_facts(os.getppid())
    return int(first.age_seconds) if first is not None else 0


def named_pids(view: BoardView) -> dict[int, str]:
    """Return the ids of the node's processes and what each is."""
    named = dict.fromkeys(worker_pids(), "http_worker")
    named[os.getppid()] = "http_server"
    first = supervisor(view)
    if first is not None:
        named[first.pid] = "supervisor"
    if view.owner_pid:
        named |= dict.fromkeys(children_of(view.owner_pid), "snapshot")
        named[view.owner_pid] = "replica" if view.role == "replica" else "writer"
    return named
