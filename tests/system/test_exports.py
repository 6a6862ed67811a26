"""`synap export` and `synap import` with a real node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import HOST, Node
from tests.system.test_cli import synap

KEYS = 12_000


def url_of(node: Node) -> str:
    return f"http://{HOST}:{node.port}"


@pytest.fixture(scope="module")
def node(module_node: Node) -> Node:
    module_node.start()
    return module_node


@pytest.fixture(scope="module")
def exported(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = [[f"users:{number:05}", f"value {number} ü"] for number in range(KEYS)]
    assert node.request("POST", "/kv/mset", {"pairs": pairs}).status == 200
    assert node.request("POST", "/kv/set", {"key": "other", "value": "1"}).status == 200
    file = tmp_path_factory.mktemp("exported") / "users.ndjson"
    ended = synap("export", "--prefix", "users:", "-o", str(file), "--url", url_of(node))
    assert (ended.returncode, ended.stderr) == (0, f"{KEYS} keys\n")
    return file


def test_import_brings_back_what_was_exported_and_leaves_the_rest(
    node: Node, exported: Path
) -> None:
    keys = [f"users:{number:05}" for number in range(KEYS)]
    assert node.request("POST", "/kv/mdel", {"keys": keys}).json() == {"deleted": KEYS}
    node.request("POST", "/kv/set", {"key": "other", "value": "2"})
    ended = synap("import", str(exported), "--url", url_of(node))
    assert (ended.returncode, ended.stdout) == (0, f"{KEYS} keys\n")
    values = node.request("POST", "/kv/mget", {"keys": [keys[0], keys[-1], "other"]}).json()
    assert values == {"values": ["value 0 ü", f"value {KEYS - 1} ü", "2"]}


def test_export_goes_to_standard_output(node: Node) -> None:
    node.request("POST", "/kv/set", {"key": "shown", "value": "1"})
    ended = synap("export", "--prefix", "shown", "--url", url_of(node))
    _, entry, end = ended.stdout.splitlines()
    assert '"key":"shown"' in entry
    assert '"entries":1' in end


@pytest.mark.parametrize(
    ("cut", "told"),
    [(slice(0, -30), "was cut"), (slice(200, None), "is no export"), (slice(0, 0), "is no export")],
)
def test_file_that_is_no_whole_export_is_not_imported(
    node: Node, exported: Path, tmp_path: Path, cut: slice, told: str
) -> None:
    broken = tmp_path / "broken.ndjson"
    broken.write_bytes(exported.read_bytes()[cut])
    before = node.request("GET", "/digest").json()
    ended = synap("import", str(broken), "--url", url_of(node))
    assert ended.returncode == 1
    assert told in ended.stderr
    assert node.request("GET", "/digest").json() == before


def test_commands_say_where_no_node_answers(tmp_path: Path) -> None:
    ended = synap("export", "-o", str(tmp_path / "x"), "--url", "http://127.0.0.1:1")
    assert ended.returncode == 1
    assert "does not answer: Connection refused" in ended.stderr
    assert list(tmp_path.iterdir()) == []
