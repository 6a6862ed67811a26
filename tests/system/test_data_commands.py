"""`synap get`, `set`, `del`, `incr` and `scan` with a real node."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.command_line import synap_here
from tests.support import HOST, Node

BYTES = bytes(range(256))


@pytest.fixture
def url(shared_node: Node) -> str:
    return f"http://{HOST}:{shared_node.port}"


def run(url: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    return synap_here(*arguments, stdin=stdin, SYNAP_URL=url)


def test_bytes_from_standard_input_come_back_as_they_were(url: str) -> None:
    assert run(url, "set", "blob", "-", stdin=BYTES).returncode == 0
    read = run(url, "get", "blob", "-o", "raw").stdout
    assert read.encode(errors="surrogateescape") == BYTES
    assert "value_base64" in json.loads(run(url, "get", "blob", "-o", "json").stdout)


def test_key_that_is_no_plain_path_is_the_same_for_all_commands(url: str) -> None:
    key = "a/b ?%ü#"
    assert run(url, "set", key, "1").returncode == 0
    assert run(url, "scan", "a/").stdout == f"{key}\n"
    assert run(url, "incr", key, "--by", "-3").stdout == "-2\n"
    assert run(url, "get", key).stdout == "-2\n"
    assert run(url, "del", key).stdout == "1\n"


def test_condition_holds_or_ends_with_one(url: str) -> None:
    assert run(url, "set", "lock", "me", "--xx").returncode == 1
    version = run(url, "set", "lock", "me", "--nx").stdout.strip()
    assert run(url, "set", "lock", "you", "--nx").returncode == 1
    assert run(url, "set", "lock", "us", "--if-version", version).returncode == 0
    assert run(url, "del", "lock", "--if-version", version).returncode == 1
    assert run(url, "get", "lock").stdout == "us\n"


def test_ttl_is_set(url: str, shared_node: Node) -> None:
    run(url, "set", "short", "1", "--ttl", "50")
    assert 0 < shared_node.request("GET", "/kv/short/ttl").json()["ttl"] <= 50


def test_scan_goes_over_all_pages_and_stops_at_the_limit(url: str, shared_node: Node) -> None:
    pairs = [[f"page:{number:04}", 1] for number in range(2500)]
    assert shared_node.request("POST", "/kv/mset", {"pairs": pairs}).status == 200
    assert run(url, "scan", "page:").stdout.splitlines() == [key for key, _ in pairs]
    cut = run(url, "scan", "page:", "--limit", "1001", "-o", "raw").stdout
    assert cut.split("\0")[:-1] == [key for key, _ in pairs[:1001]]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("get", "nobody"), 1),
        (("del", "nobody"), 1),
        (("get",), 2),
        (("set", "k", "v", "--nx", "--xx"), 2),
        (("get", "k", "--url", "ftp://host"), 2),
        (("get", "k", "--url", "127.0.0.1:1"), 3),
        (("get", "k", "--password-file", "/nowhere", "--user", "ann"), 3),
        (("get", "k" * 504), 3),
    ],
)
def test_exit_code_tells_what_happened(url: str, arguments: tuple[str, ...], code: int) -> None:
    assert run(url, *arguments).returncode == code


def test_number_that_is_none_is_told(url: str) -> None:
    run(url, "set", "word", "abc")
    ended = run(url, "incr", "word")
    assert ended.returncode == 3
    assert "not a decimal integer" in ended.stderr


def test_slots_of_a_node_that_has_all_keys_are_told_in_words(url: str) -> None:
    shown = run(url, "slots", "show")
    assert (shown.returncode, shown.stdout) == (
        0,
        f"{url} has all keys: sharding.slots is not set\n",
    )
    planned = run(url, "slots", "plan", "a,b")
    assert (planned.returncode, planned.stderr[:40]) == (
        1,
        "synap: nobody says whose slots 0-1023 ar",
    )
    assert run(url, "slots", "plan", ",").returncode == 2
