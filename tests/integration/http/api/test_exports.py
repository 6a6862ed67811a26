"""`GET /kv/export` and `POST /kv/import` on a node."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from typing import Any

import pytest

from synap.slots import slot_of
from tests.integration.http_support import Client, error_of, position_of
from tests.support import HOST, Answer, Node, eventually

KEYS = 200
# So many states are exported.
EXPORTS = 5


def lines_of(answer: Answer) -> list[dict[str, Any]]:
    """Return an export's lines, having checked its first and its last."""
    assert answer.status == 200, answer.body
    *content, last = answer.body.splitlines(keepends=True)
    end = json.loads(last)
    assert end == {
        "end": True,
        "entries": len(content) - 1,
        "sha256": hashlib.sha256(b"".join(content)).hexdigest(),
    }
    assert json.loads(content[0])["position"] == position_of(answer)
    return [json.loads(line) for line in content]


def test_export_has_what_is_below_a_prefix_and_import_takes_it(client: Client, key: str) -> None:
    client.put(f"{key}:1", "text ü")
    client.send("PUT", f"/raw/{key}:2", b"\xff\x00")
    client.put(f"{key}:3", 1, ttl=900)
    client.put(f"{key}:gone", 1, ttl=0)
    version = client.get(f"/raw/{key}:1").headers["etag"].strip('"')
    answer = client.get(f"/kv/export?prefix={key}:")
    assert answer.headers["content-type"] == "application/x-ndjson"
    head, first, second, third = lines_of(answer)
    assert head["prefix"] == f"{key}:"
    assert first == {
        "key": f"{key}:1", "value": "text ü", "version": version, "expires_at_ms": None,
    }  # fmt: skip
    assert second["value_base64"] == "/wA="
    assert third["expires_at_ms"] > time.time() * 1000
    client.post("/kv/mdel", {"keys": [f"{key}:{number}" for number in (1, 2, 3)]})
    imported = client.send("POST", "/kv/import", answer.body)
    assert imported.json() == {"success": True, "written": 3}
    again = lines_of(client.get(f"/kv/export?prefix={key}:"))
    plain = [{**line, "version": None, "position": None} for line in again]
    assert plain == [
        {**line, "version": None, "position": None} for line in (head, first, second, third)
    ]


def test_export_of_nothing_has_its_first_and_last_line(client: Client) -> None:
    assert len(lines_of(client.get("/kv/export?prefix=no-such"))) == 1


def test_export_of_a_slot_is_whole_where_a_thousand_keys_of_others_come_first(
    client: Client, key: str
) -> None:
    pairs = [{"key": f"{{{key}}}{number:04}", "value": 1} for number in range(2100)]
    last = f"{key}~"
    assert client.post("/kv/mset", {"pairs": [*pairs, {"key": last, "value": 2}]}).status == 200
    lines = lines_of(client.get(f"/kv/export?slot={slot_of(last.encode())}&prefix={{{key}}}"))
    assert len(lines) == 1
    assert last in [line.get("key") for line in lines_of(client.get(f"/kv/export?prefix={key}"))]


def test_head_of_an_export_takes_no_place(client: Client) -> None:
    for _ in range(5):
        assert client.send("HEAD", "/kv/export").status == 200


@pytest.mark.parametrize("data", [b"x", b'{"key":"a"}\n', b'{"position":"1-9f2c11aa"}\n'])
def test_import_of_other_lines_changes_nothing(client: Client, data: bytes) -> None:
    answer = client.send("POST", "/kv/import", b'{"key":"imported","value":"x"}\n' + data)
    assert answer.status in (400, 422)
    assert "line 2" in answer.json()["error"] or "cut" in answer.json()["error"]
    assert client.read("imported") is None


def test_import_takes_effect_once(client: Client, key: str) -> None:
    line = json.dumps({"key": key, "value": "1"}).encode() + b"\n"
    headers = {"Idempotency-Key": "import-once"}
    assert client.send("POST", "/kv/import", line, headers).status == 200
    client.put(key, 2)
    again = client.send("POST", "/kv/import", line, headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert client.read(key) == "2"


def test_every_export_shows_one_state_beside_a_writer(client: Client, key: str) -> None:
    check_exports_beside_a_writer(client, key, KEYS, EXPORTS)


def check_exports_beside_a_writer(client: Client, prefix: str, keys: int, exports: int) -> None:
    """The writer rewrites all keys in one request: an export has one value, in all of them."""
    stopped = threading.Event()

    def write() -> None:
        number = 0
        while not stopped.is_set():
            pairs = [[f"{prefix}:{name:04}", number] for name in range(keys)]
            assert client.post("/kv/mset", {"pairs": pairs}).status == 200
            number += 1

    client.post("/kv/mset", {"pairs": [[f"{prefix}:{name:04}", -1] for name in range(keys)]})
    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen: list[str] = []
        while len(set(seen)) < exports:
            assert len(seen) < 50 * exports, "the writer writes nothing"
            _, *entries = lines_of(client.get(f"/kv/export?prefix={prefix}:"))
            values = {entry["value"] for entry in entries}
            assert (len(entries), len(values)) == (keys, 1)
            seen.append(values.pop())
    finally:
        stopped.set()
        writer.join()


def test_third_export_waits_and_a_client_that_goes_gives_its_place_up(
    client: Client, http_node: Node, key: str
) -> None:
    # Below what an answer may hold unread, each of these would be over before the next.
    for number in range(120):
        client.send("PUT", f"/raw/{key}:{number:03}", bytes(100_000))
    request = f"GET /kv/export?prefix={key} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    slow = []
    for _ in range(2):
        connection = socket.create_connection((HOST, http_node.port), 10)
        connection.sendall(request)
        assert connection.recv(12) == b"HTTP/1.1 200"
        slow.append(connection)
    third = client.get(f"/kv/export?prefix={key}")
    assert error_of(third) == (503, "exports_running", True)
    slow[0].close()
    eventually(lambda: client.get("/kv/export?prefix=no-such").status == 200)
    slow[1].close()
    keys = [f"{key}:{number:03}" for number in range(120)]
    eventually(lambda: client.get("/kv/export?prefix=no-such").status == 200)
    client.post("/kv/mdel", {"keys": keys})
