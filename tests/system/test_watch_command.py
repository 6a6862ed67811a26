"""`synap watch` and the examples, with a real node."""

from __future__ import annotations

import json
import threading

import pytest

from tests.command_line import synap_here
from tests.support import HOST, Node, free_port


@pytest.fixture(scope="module")
def node(module_node: Node) -> Node:
    module_node.start()
    return module_node


def watch(node: Node, *arguments: str) -> tuple[int, list[str], str]:
    ended = synap_here("watch", *arguments, "--url", f"http://{HOST}:{node.port}")
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


def put(node: Node, key: str, value: str) -> str:
    answer = node.request("POST", "/kv/set", {"key": key, "value": value})
    return answer.headers["x-synap-position"]


def test_watch_tells_keys_and_changes_from_a_position_on(node: Node) -> None:
    first = put(node, "user:1", "Ann")
    second = put(node, "user:2", "\x1b[31m")
    put(node, "other", "x")
    removed = node.request("DELETE", "/kv/del/user:1").headers["x-synap-position"]
    code, lines, _ = watch(node, "user:", "--from", first, "--count", "2")
    assert code == 0
    assert lines == [f'{second} set "user:2" "\\u001b[31m"', f'{removed} del "user:1" client']
    code, lines, _ = watch(node, "user:", "--initial", "--count", "1", "-o", "json")
    assert [json.loads(line)["event"] for line in lines] == ["entry"]


def test_watch_says_where_the_log_does_not_go_on(node: Node) -> None:
    code, lines, told = watch(node, "--from", "1-01234567")
    assert (code, lines) == (3, [])
    assert told.startswith("diverged: ")


def test_watch_that_is_refused_says_why(node: Node) -> None:
    code, _, told = watch(node, "--from", "yesterday")
    assert code == 1
    assert "position" in told


def test_watch_goes_on_over_a_restart_of_the_node(node: Node) -> None:
    position = put(node, "restart:1", "1")

    def write() -> None:
        node.stop()
        node.start()
        put(node, "restart:2", "2")

    writer = threading.Thread(target=write)
    writer.start()
    code, lines, _ = watch(node, "restart:", "--from", position, "--count", "1")
    writer.join()
    assert (code, len(lines)) == (0, 1)
    assert lines[0].endswith('set "restart:2" "2"')


def test_watch_of_no_node_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.cli.watch._RETRY_SECONDS", 0.0)
    ended = synap_here("watch", "--url", f"http://{HOST}:{free_port()}")
    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
