"""docs/troubleshooting.md against three nodes whose master is lost: what its commands print."""

from __future__ import annotations

import re
import shlex
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.command_line import synap_here
from tests.pages import page
from tests.support import HOST, Node, eventually

ADDRESSES = ("10.0.0.2", "10.0.0.3", "10.0.0.4")
CHECK = "synap status --check --url 10.0.0.4:15500"
PORTS = {15500: "port"}


def cluster(folder: Path) -> list[Node]:
    # Whoever is gone is missed sooner than by default.
    soon = {"replication__replica_timeout_secs": 2, "replication__heartbeat_interval_ms": 200}
    first = Node(folder / "node1", "node1", {"replication__role": "master", **soon})
    following = {
        **soon,
        "replication__role": "replica",
        "replication__master_address": f"{HOST}:{first.pub_port}",
        "replication__master_sync_address": f"{HOST}:{first.sync_port}",
    }
    return [first, *(Node(folder / name, name, following) for name in ("node2", "node3"))]


def examples(heading: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a part, with what each prints."""
    found: list[tuple[str, list[str]]] = []
    # Lines of examples begin as headings do.
    part = page("troubleshooting.md").partition(f"{heading}\n")[2].partition("\n## ")[0]
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", part, re.MULTILINE | re.DOTALL):
        for line in map(str.strip, block.splitlines()):
            if line.startswith("# "):
                found[-1][1].append(line[2:])
            else:
                found.append((line, []))
    return found


def translated(text: str, nodes: list[Node], *, back: bool = False) -> str:
    for address, node in zip(ADDRESSES, nodes, strict=bool(nodes)):
        for port, name in PORTS.items():
            pair = (f"{address}:{port}", f"{HOST}:{getattr(node, name)}")
            text = text.replace(*(reversed(pair) if back else pair))
    return text


def run(command: str, nodes: list[Node]) -> list[str]:
    """Return what a command of the page prints, as the page has it."""
    words = shlex.split(translated(command, nodes))[1:]
    ended = synap_here(*words)
    code = [f"exit code {ended.returncode}"] if ended.returncode else []
    return translated(ended.stdout + ended.stderr, nodes, back=True).splitlines() + code


def statuses(node: Node) -> list[str]:
    facts = node.request("GET", "/health/replication").json()
    return sorted(each["status"] for each in facts["replicas"])


@pytest.mark.timeout(120)
def test_commands_of_the_page_mend_a_lost_master_and_a_lost_replica(tmp_path: Path) -> None:
    nodes = cluster(tmp_path)
    first, second, last = nodes
    (failover, promoted), (follow, followed) = examples("## The master is lost")
    ((forget, forgotten),) = examples("## A replica is lost")
    ((confirm, confirmed),) = examples("## A clock is wrong")
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.kill)
            node.launch()
        eventually(lambda: all(node.is_healthy() for node in nodes))
        eventually(lambda: statuses(first) == ["in_sync"] * 2)
        held = {"X-Synap-Min-Replicas": "2"}
        assert first.request("POST", "/kv/set", {"key": "k", "value": "v"}, held).status == 200
        first.kill()
        for address in ADDRESSES[1:]:
            lost = f"synap status --url {address}:15500"
            eventually(lambda: "disconnected" in " ".join(run(lost, nodes)))  # noqa: B023
        assert run(failover, nodes) == promoted
        first.start()
        began, *_, ended = run(follow, nodes)
        # Between these, states come as they are met; the link stands while it catches up too.
        assert began == followed[0]
        assert ended in (followed[-1], "catching_up, offset 1")
        assert last.request("GET", "/kv/get/k").json() == "v"
        eventually(lambda: "exit code" not in " ".join(run(CHECK, nodes)))
        second.kill()
        eventually(lambda: "disconnected" in statuses(last))
        assert run(forget, nodes) == forgotten
        assert run(confirm, nodes) == confirmed


def test_faulty_configuration_is_told_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.yaml").write_text("server: {prot: 1}\n")
    monkeypatch.chdir(tmp_path)
    ((command, told),) = examples("## The configuration is wrong")
    assert run(command, []) == told
