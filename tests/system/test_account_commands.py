"""`synap user` and `synap key` with a real node."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from tests.command_line import synap_here
from tests.support import HOST, Node
from workers.process import child_environment

PASSWORD = "correct horse"


@pytest.fixture
def url(shared_node: Node) -> str:
    return f"http://{HOST}:{shared_node.port}"


def add(url: str, name: str) -> None:
    words = ("user", "add", name, "--new-password-file", "-")
    ended = synap_here(*words, stdin=PASSWORD.encode(), SYNAP_URL=url)
    assert ended.returncode == 0, ended.stderr


def login(node: Node, name: str, password: str) -> int:
    return node.request("POST", "/auth/login", {"username": name, "password": password}).status


def test_user_is_made_disabled_enabled_and_removed(url: str, shared_node: Node) -> None:
    add(url, "ann")
    assert login(shared_node, "ann", PASSWORD) == 200
    for command, status in (("disable", 401), ("enable", 200), ("remove", 401)):
        assert synap_here("user", command, "ann", SYNAP_URL=url).returncode == 0
        assert login(shared_node, "ann", PASSWORD) == status


def test_table_shows_users_as_they_are_called(url: str) -> None:
    add(url, "bea")
    told = synap_here("user", "list", SYNAP_URL=url).stdout
    assert "bea" in told
    assert "\x1b" not in told


def test_key_is_printed_alone_and_revoked(url: str) -> None:
    made = synap_here(
        "key", "create", "k1", "--allow", "read=kv:a:*", "--expires-in", "60", SYNAP_URL=url
    )
    assert made.stdout.startswith("sk_")
    assert len(made.stdout.splitlines()) == 1
    listed = json.loads(synap_here("key", "list", "-o", "json", SYNAP_URL=url).stdout)
    assert listed[0]["permissions"] == [{"resource": "kv:a:*", "action": "read"}]
    assert synap_here("key", "revoke", listed[0]["id"], SYNAP_URL=url).returncode == 0
    assert synap_here("key", "revoke", listed[0]["id"], SYNAP_URL=url).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("user", "disable", "nobody"), 1),
        (("user", "add", "cat"), 2),
        (("user", "add", "cat", "--new-password-file", "/nowhere/at/all"), 2),
        (("key", "create", "k", "--allow", "read"), 2),
        (("user", "remove", "root"), 3),
    ],
)
def test_exit_code_tells_what_happened(url: str, arguments: tuple[str, ...], code: int) -> None:
    assert synap_here(*arguments, SYNAP_URL=url).returncode == code


def test_password_is_asked_for_on_a_terminal_and_not_shown(url: str, shared_node: Node) -> None:
    add(url, "dan")
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "workers.main", "user", "password", "dan", "--url", url],
        env={**child_environment(os.environ, None, {}), "SYNAP_SUPERVISOR_PID": ""},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    told = b""
    for prompt in (b"New password: ", b"again: "):
        while not told.endswith(prompt):
            told += os.read(ours, 1000)
        os.write(ours, b"battery staple\n")
    assert running.wait(20) == 0
    os.close(theirs)
    os.close(ours)
    assert b"battery" not in told
    assert login(shared_node, "dan", "battery staple") == 200
