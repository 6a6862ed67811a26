"""A real node whose workers come and go under load, with a thousand clients, and at its end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from synap.node.paths import NodePaths
from synap.shared.board import Board
from tests.integration.http_support import make_config
from tests.support import HOST, Node, children_of, eventually, is_alive

GET = b"GET /kv/get/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_GET = b"GET /kv/get/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
IDLE_CLIENTS = 1000


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with one worker; where a test adds some, it takes them away again."""
    with Node(
        tmp_path_factory.mktemp("scaling"),
        "scaling",
        {"server.max_connections": 4000, "server.max_connections_per_address": 2000},
    ) as node:
        assert node.request("POST", "/kv/set", {"key": "a", "value": "b"}).status == 200
        yield node


def get_on_fresh_connection(node: Node) -> int:
    with socket.create_connection((HOST, node.port), 15) as client:
        client.sendall(LAST_GET)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert (answer[:15], answer[-3:]) == (b"HTTP/1.1 200 OK", b'"b"')
    return 1


def set_on_fresh_connection(node: Node) -> int:
    assert node.request("POST", "/kv/set", {"key": "w", "value": 1}).status == 200
    return 1


def get_on_kept_connection(node: Node) -> int:
    """Ask up to 50 times on one connection; an answer may say that it was the last one."""
    connection = http.client.HTTPConnection(HOST, node.port, timeout=15)
    try:
        count, will_close = 0, False
        while count < 50 and not will_close:
            connection.request("GET", "/kv/get/a")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b'"b"')
            count, will_close = count + 1, answer.will_close
        return count
    finally:
        connection.close()


class Load:
    """Clients in threads, until the end of the block; what failed is in `failures`."""

    def __init__(self, node: Node, *clients: Callable[[Node], int]) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self._should_stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(node, c)) for c in clients]

    def _run(self, node: Node, client: Callable[[Node], int]) -> None:
        while not self._should_stop.is_set():
            try:
                count = client(node)
            except Exception as error:
                self.failures.append(f"{client.__name__}: {error!r}")
                continue
            with self._lock:
                self.answers += count

    def wait_for_answers(self, count: int) -> None:
        goal = self.answers + count
        eventually(lambda: self.answers >= goal, 30.0)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._should_stop.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.timeout(120)
def test_workers_come_and_go_under_load_without_a_failed_request(node: Node) -> None:
    arbiter = node.http_pid()
    clients = [get_on_fresh_connection] * 3 + [get_on_kept_connection] * 2
    with Load(node, *clients, set_on_fresh_connection) as load:
        for number, count in (
            (signal.SIGTTIN, 2),
            (signal.SIGTTIN, 3),
            (signal.SIGTTOU, 2),
            (signal.SIGHUP, 1),
            (signal.SIGTTIN, 2),
            (signal.SIGTTOU, 1),
        ):
            before = children_of(arbiter)
            os.kill(node.pid, number)
            eventually(
                lambda before=before, count=count: (  # type: ignore[misc]
                    len(now := children_of(arbiter)) == count and now != before
                ),
                30.0,
            )
            load.wait_for_answers(100)
    assert load.failures == []


def test_thousand_idle_and_trickling_connections_leave_the_node_serving(node: Node) -> None:
    (worker,) = children_of(node.http_pid())
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection((HOST, node.port), 15))
            for _ in range(IDLE_CLIENTS)
        ]
        for number, client in enumerate(crowd):
            # A third says nothing, a third stops inside a head, a third has been served.
            client.sendall((b"", GET[: 5 + number % 40], GET)[number % 3])
        for byte in LAST_GET[5:15]:
            for client in crowd[4::30]:
                with suppress(OSError):
                    client.send(bytes([byte]))
            assert get_on_fresh_connection(node)
        served = crowd[2::3]
        assert all(client.recv(4096).startswith(b"HTTP/1.1 200") for client in served)
        assert len(os.listdir(f"/proc/{worker}/fd")) > IDLE_CLIENTS
        assert node.is_healthy()
    assert children_of(node.http_pid()) == [worker]


def can_connect(node: Node) -> bool:
    try:
        socket.create_connection((HOST, node.port), 5).close()
    except ConnectionError:
        return False
    return True


def test_stopping_node_says_so_then_refuses_then_finishes_then_ends(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("draining")
    with Node(folder, "draining", {"server.drain_delay_ms": 1000}) as node:
        assert node.request("POST", "/kv/set", {"key": "a", "value": "b"}).status == 200
        owner, offset = node.owner_pid(), 10**9
        board = Board(NodePaths.of(make_config(folder)).board_file)
        with Load(node, get_on_kept_connection) as load, ExitStack() as stack:
            load.wait_for_answers(10)
            assert not board.is_draining
            os.kill(node.pid, signal.SIGTERM)
            eventually(lambda: board.is_draining, 1.0)
            # Still everything works: who asks for the readiness has time to hear of it.
            assert get_on_fresh_connection(node)
            assert set_on_fresh_connection(node)
            waiting = stack.enter_context(socket.create_connection((HOST, node.port), 15))
            eventually(lambda: not can_connect(node), 5.0)
            # The listeners are closed; a request that comes now on an open connection is served.
            waiting.sendall(
                b"GET /kv/get/a HTTP/1.1\r\nHost: localhost\r\nX-Synap-Min-Offset: %d\r\n\r\n"
                % offset
            )
            assert is_alive(owner)
            answer = b"".join(iter(lambda: waiting.recv(4096), b""))
            assert b"not_caught_up" in answer
            assert b"connection: close" in answer
            assert is_alive(owner)
        assert [each for each in load.failures if "ConnectionRefused" not in each] == []
        assert node.wait() == 0
        assert not is_alive(owner)
        board.close()
