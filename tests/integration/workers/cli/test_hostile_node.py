"""The command line against somebody who answers as no node does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from synap.backup import fetch
from synap.errors import BackupFailed
from tests.command_line import synap_here
from workers.cli.cluster_status import NodeStatus, cluster_status
from workers.cli.http_call import CallFailed, call, get, post
from workers.cli.status import _table
from workers.health import check

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
ESCAPES = "\x1b[2J\x1b]0;owned\x07\nroot"


class Silent:
    """Nobody looks how far a fetch is."""

    def step(self, words: str) -> None:
        """See Progress."""

    def received(self, count: int, total: int) -> None:
        """See Progress."""


@contextmanager
def somebody(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve each connection by `answer`, after its request came; yields the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.settimeout(10)
                with client, suppress(OSError):
                    client.recv(65536)
                    answer(client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def saying(body: bytes, head: bytes = HEAD) -> Callable[[socket.socket], None]:
    return lambda client: client.sendall(head + b"\r\n" + body)


def _without_going_on(client: socket.socket) -> None:
    client.sendall(HEAD + b"Content-Length: 1000\r\nX-Synap-Checksum: sha256:0\r\n\r\nsome")
    client.recv(1)


def test_backup_that_stops_coming_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "IDLE_SECONDS", 0.2, raising=False)
    began = time.monotonic()
    with somebody(_without_going_on) as url, pytest.raises(BackupFailed, match="no whole answer"):
        fetch.fetch_backup(
            url, tmp_path / "b.backup", force=False, now_ms=lambda: 0, progress=Silent()
        )
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


def _without_end(client: socket.socket) -> None:
    client.sendall(HEAD + b'\r\n"')
    while True:
        client.sendall(b"x" * 65536)


def _by_drops(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        client.sendall(b"y")
        time.sleep(0.05)


def member(**fields: Any) -> dict[str, Any]:
    return {"node_id": "n", "url": "", "role": "master", "state": "writable", **fields}


@pytest.mark.parametrize(
    "body",
    [b"[1]", b"{}", b"[" * 100_000, b'{"members":[]}', b'{"members":[{"role":[]}]}', b"9" * 9000],
    ids=["list", "empty", "deep", "nobody", "role", "number"],
)
def test_answer_of_another_form_is_no_answer(body: bytes) -> None:
    with somebody(saying(body)) as url:
        with pytest.raises(CallFailed):
            cluster_status([url])
        with pytest.raises(CallFailed):
            raise KeyError(post(url, "/replication/promote")["lost"])
        assert check(url)[1].startswith(url) or "no status" in check(url)[1]


def test_answer_without_end_is_read_no_further_than_a_node_answers() -> None:
    with (
        somebody(_without_end) as url,
        pytest.raises(CallFailed, match="bytes are no Synap node's answer"),
    ):
        get(url, "/cluster")


def test_answer_that_comes_by_drops_ends_with_the_time_it_has() -> None:
    began = time.monotonic()
    with somebody(_by_drops) as url, pytest.raises(CallFailed, match=r"not within 0\.3 s"):
        get(url, "/cluster", 0.3)
    assert time.monotonic() - began < 5


def test_node_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(CallFailed, match=r"/health does not answer: Connection refused$"):
        get("http://127.0.0.1:1", "/health")


def test_redirect_leads_to_http_alone() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1:1/x\r\nContent-Length: 0\r\n"
    with somebody(saying(b"", head)) as url, pytest.raises(CallFailed, match="unknown url type"):
        get(url, "/cluster")


def test_what_a_node_says_stays_in_its_line() -> None:
    names = ("node_id", "role", "state", "note")
    told = {"members": [member(**dict.fromkeys(names, ESCAPES))], "unknown": ESCAPES}
    with somebody(saying(json.dumps(told).encode())) as url:
        found = cluster_status([url])
    row = found.nodes[0]
    for text in (row.node, row.role, row.state, row.note, found.unknown):
        assert text.isprintable()


def test_error_of_a_node_stays_in_its_line() -> None:
    refusal = json.dumps({"error": ESCAPES}).encode()
    head = b"HTTP/1.1 409 No\x1b[2J\r\nConnection: close\r\n"
    for body in (refusal, b"nothing"):
        with somebody(saying(body, head)) as url, pytest.raises(CallFailed) as raised:
            get(url, "/cluster")
        assert str(raised.value).isprintable()


def test_name_with_the_marks_of_markup_is_shown_as_it_is() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(_table([NodeStatus("a[/b] [red]x", "", "master", "writable")]))
    assert "a[/b] [red]x" in captured.get()


@pytest.mark.parametrize(
    "head", [HEAD, b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n"], ids=["200", "404"]
)
def test_value_of_what_is_no_node_is_told_and_not_printed(head: bytes) -> None:
    with somebody(saying(b"<html>key_not_found" + ESCAPES.encode(), head)) as url:
        ended = synap_here("get", "a", "--url", url)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "Synap node" in ended.stderr
    assert "\x1b" not in ended.stderr


def test_value_that_is_cut_is_not_taken_for_whole() -> None:
    head = HEAD + b"X-Synap-Offset: 1\r\nContent-Length: 1000\r\n"
    with somebody(saying(b"some", head)) as url, pytest.raises(CallFailed, match="was cut"):
        call("GET", url, "/raw/a", timeout_seconds=5)


def test_member_that_does_not_answer_here_is_told_with_what_others_know() -> None:
    members = [
        {"role": "master", "state": "writable", "node_id": "m"},
        {"role": "replica", "state": "in_sync", "node_id": "r", "url": "http://127.0.0.1:1"},
    ]
    with somebody(saying(json.dumps({"members": members}).encode())) as url:
        _, replica = cluster_status([url]).nodes
    assert replica.state == "unreachable"
    assert replica.note.startswith("others know it as in_sync; http://127.0.0.1:1")
    assert "does not answer: Connection refused" in replica.note


@pytest.mark.parametrize(
    "body",
    [
        b"[1]",
        b"{}",
        b'{"service":"synap","version":"1","reasons":["'
        + ESCAPES.encode("unicode_escape")
        + b'"]}',
        b'{"version":"1","role":"master","node_id":"n","min_replicas_to_write":"x","replicas":7}',
        b'synap_clock_held_seconds{value="7",process="x"} nan\nsynap_process_open_fds 1e400\n',
    ],
    ids=["list", "empty", "escapes", "types", "metrics"],
)
def test_doctor_takes_whatever_is_answered(body: bytes) -> None:
    head = HEAD + b"Date: Mon, 99 Foo 99999 99:99:99 GMT\r\n"
    with somebody(saying(body, head)) as url:
        ended = synap_here("doctor", "--url", url)
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_refusal_of_a_replica_names_where_its_master_is() -> None:
    body = b'{"error":"ask the master","reason":"read_only_replica","master":"http://m\\u001b:1"}'
    head = b"HTTP/1.1 421 Misdirected Request\r\nConnection: close\r\n"
    with somebody(saying(body, head)) as url, pytest.raises(CallFailed) as refused:
        call("DELETE", url, "/raw/k")
    assert str(refused.value) == f"{url}/raw/k: ask the master (http://m\\x1b:1)"
