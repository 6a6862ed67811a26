"""Credentials go to the hosts that the operator named, whatever a node tells of others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import synap_here
from tests.support import HOST

LOGIN = {"SYNAP_USER": "root", "SYNAP_PASSWORD": "correct horse"}


class Served(ThreadingHTTPServer):
    """A server that answers every request alike, and remembers who sent credentials.

    Attributes:
        asked: A pair for each request: the path, and what was in `Authorization`.
        answers: Bodies by path.
        status: Of paths without one.
        headers: Sent with each answer.
    """

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.answers: dict[str, Any] = {}
        self.status = 404
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    @property
    def credentials(self) -> list[str]:
        return [login for _, login in self.asked if login is not None]


class _Handler(BaseHTTPRequestHandler):
    server: Served

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        known = self.path in self.server.answers
        body = json.dumps(self.server.answers.get(self.path, {"error": "told"})).encode()
        self.send_response(200 if known else self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Served]:
    with Served() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def thief() -> Iterator[Served]:
    with serving() as server:
        yield server


@pytest.fixture
def node() -> Iterator[Served]:
    """Yield the node that is named, of which somebody else has taken possession."""
    with serving() as server:
        yield server


def replica_of(url: str) -> dict[str, Any]:
    facts = {
        "role": "replica", "node_id": "r1", "epoch": 1, "read_only": None, "master_url": url,
        "status": "in_sync", "local_offset": 1, "lag_entries": 0, "lag_ms": 0, "last_contact_ms": 1,
    }  # fmt: skip
    own = member("r1", "", "replica", "in_sync")
    return {
        "/health/replication": facts,
        "/cluster": {
            "node_id": "r1", "role": "replica", "unknown": "other replicas",
            "members": [own, member(None, url, "master", "heard")],
        },
    }  # fmt: skip


def master_of(url: str) -> dict[str, Any]:
    replica = {
        "id": "r1", "url": url, "status": "in_sync", "offset": 1, "lag_entries": 0, "lag_ms": 0,
        "last_ack": 1, "address": "", "note": "",
    }  # fmt: skip
    facts = {
        "role": "master", "node_id": "m", "epoch": 1, "read_only": None, "current_offset": 1,
        "replicas": [replica], "replica_listen_address": "x:1", "sync_listen_address": "x:2",
    }  # fmt: skip
    return {
        "/health/replication": facts,
        "/cluster": {
            "node_id": "m", "role": "master", "unknown": None,
            "members": [
                member("m", "", "master", "writable"), member("r1", url, "replica", "in_sync"),
            ],
        },
    }  # fmt: skip


def member(name: str | None, url: str, role: str, state: str) -> dict[str, Any]:
    return {
        "node_id": name, "url": url, "role": role, "state": state, "epoch": 1, "offset": 1,
        "lag_entries": 0, "lag_ms": 0, "contact_ms": 1,
        "open": False,
    }  # fmt: skip


@pytest.mark.parametrize("told", [replica_of, master_of])
@pytest.mark.parametrize("command", [("status",), ("switchover", "--to", "r1", "--timeout", "1")])
def test_no_credentials_go_to_a_host_that_a_node_told(
    node: Served, thief: Served, told: Any, command: tuple[str, ...]
) -> None:
    node.answers = told(thief.url)
    thief.answers = master_of("") | {"/replication/pause": {}}
    ended = synap_here(*command, "--url", node.url, **LOGIN)
    assert node.credentials, ended.stderr
    assert thief.asked == []
    if command[0] == "status":
        assert thief.url in ended.stdout
    else:
        assert ended.returncode == 1
        assert "--url" in ended.stderr


COMMANDS = [
    ("status", "--url"), ("switchover", "--to", "r1", "--url"), ("promote", "--url"),
    ("follow", "x:1", "--url"), ("replication", "accept", "--url"), ("snapshot", "--url"),
    ("digest", "--url"), ("backup", "--output", "b", "--url"),
]  # fmt: skip


@pytest.mark.parametrize("status", [301, 302, 307, 308, 421])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_credentials_follow_a_redirect_or_a_masters_address(
    node: Served, thief: Served, command: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    node.status = status
    node.headers = {"Location": f"{thief.url}/stolen", "X-Synap-Master": thief.url}
    arguments = [str(tmp_path / word) if word == "b" else word for word in command]
    synap_here(*arguments, node.url, **LOGIN)
    assert node.credentials
    assert thief.credentials == []


def test_credentials_go_to_every_host_that_is_named(
    node: Served, thief: Served, tmp_path: Path
) -> None:
    """By what a node tells of itself, whatever address others know it by."""
    node.answers, other = master_of("http://10.255.255.1:1"), thief
    other.answers = replica_of("http://10.255.255.1:2")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"# the nodes\n{other.url}/\n\n")
    for named in (["--url", other.url], ["--hosts", str(hosts)]):
        ended = synap_here("status", "-o", "json", "--url", node.url, *named, **LOGIN)
        rows = {row["node"]: row["url"] for row in json.loads(ended.stdout)}
        assert rows == {"m": node.url, "r1": other.url}
    assert len(node.credentials) == len(other.credentials) == 2


def test_told_hosts_are_asked_where_the_command_has_no_credentials(
    node: Served, thief: Served
) -> None:
    node.answers, master = replica_of(thief.url), thief
    master.answers = master_of(node.url)
    ended = synap_here("status", "-o", "json", "--url", node.url)
    rows = [(row["node"], row["url"]) for row in json.loads(ended.stdout)]
    assert rows == [("m", master.url), ("r1", node.url)]
    assert ended.stderr == ""
