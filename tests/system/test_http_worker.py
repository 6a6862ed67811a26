"""The HTTP worker under a real Gunicorn: signals, load, slow clients and sudden deaths."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import HOST, children_of, eventually, is_alive

ROOT = Path(__file__).parents[2]
GET = b"GET /pid HTTP/1.1\r\nHost: h\r\n\r\n"
SLOW_GET = b"GET /pid?seconds=0.5 HTTP/1.1\r\nHost: h\r\n\r\n"
LAST_GET = b"GET /pid HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
ANSWER_SECONDS = 10.0

Gunicorn = Callable[..., "Arbiter"]


class Arbiter:
    """A Gunicorn of this test, on a socket that nobody else has."""

    def __init__(self, log: Path, options: list[str], environment: dict[str, str]) -> None:
        with socket.create_server((HOST, 0), backlog=2048) as listening:
            self.address = listening.getsockname()
            with log.open("ab") as output:
                self.process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "gunicorn"),
                        *("--bind", f"fd://{listening.fileno()}"),
                        *("--worker-class", "synap.http.server.worker.SynapWorker"),
                        *("--no-control-socket", "--keep-alive", "30", *options),
                        "tests.system.falcon_app:app",
                    ],
                    # Not the project's folder, whose gunicorn.conf.py would be taken.
                    cwd=log.parent,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                    pass_fds=[listening.fileno()],
                    stdout=output,
                    stderr=output,
                )
        self.log = log

    @property
    def workers(self) -> list[int]:
        return children_of(self.process.pid)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=ANSWER_SECONDS)

    def get(self, request: bytes = LAST_GET) -> int:
        """Return the pid of the worker that answered on a fresh connection."""
        with self.connect() as client:
            client.sendall(request)
            return int(read_answer(client)[1])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 15.0) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it and its workers, whatever state they are in."""
        pids = [self.process.pid, *self.workers]
        for pid in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        eventually(lambda: not any(is_alive(pid) for pid in pids))


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    """Start a Gunicorn with these options, and wait until it answers and has all its workers."""
    with ExitStack() as stack:

        def start(*options: str, answers: bool = True, **environment: str) -> Arbiter:
            arbiter = Arbiter(tmp_path / "log", list(options), environment)
            stack.callback(arbiter.kill)
            if answers:
                arbiter.get()
                named = options.index("--workers") + 1 if "--workers" in options else None
                count = 1 if named is None else int(options[named])
                # The arbiter starts them a moment apart: the first answers before all are there.
                eventually(lambda: len(arbiter.workers) == count)
            return arbiter

        yield start


def read_answer(client: socket.socket, buffered: bytes = b"") -> tuple[bytes, bytes]:
    """Return the head and the body of the next answer."""
    while b"\r\n\r\n" not in buffered:
        buffered += read_some(client)
    head, _, body = buffered.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None, head
    while len(body) < int(length[1]):
        body += read_some(client)
    return head, body


def read_some(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def read_to_end(client: socket.socket) -> bytes:
    data = b""
    while part := client.recv(65536):
        data += part
    return data


def config_with(tmp_path: Path, limits: str) -> str:
    """Return the path of a Gunicorn configuration that sets the worker's own limits."""
    path = tmp_path / "limits.conf.py"
    path.write_text(
        "from synap.http.server.limits import HttpLimits\n"
        "def post_fork(server, worker):\n"
        f"    worker.limits = HttpLimits({limits})\n"
    )
    return str(path)


class Load:
    """Threads that send requests until told to stop, and note everything that goes wrong."""

    def __init__(self, *clients: Callable[[Callable[[], bool]], int]) -> None:
        self.failures: list[str] = []
        self.requests = 0
        self._should_stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in clients]

    def _run(self, client: Callable[[Callable[[], bool]], int]) -> None:
        while not self._should_stop.is_set():
            try:
                count = client(self._should_stop.is_set)
            except Exception as error:
                self.failures.append(repr(error))
            else:
                with self._lock:
                    self.requests += count

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._should_stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, more_requests: int) -> None:
        """Wait until so many more requests were answered."""
        goal = self.requests + more_requests
        eventually(lambda: self.requests >= goal, 30)


def fresh_connection(arbiter: Arbiter) -> Callable[[Callable[[], bool]], int]:
    """Return a client that opens a connection for each request, and does not ask for its end."""

    def client(should_stop: Callable[[], bool]) -> int:
        with arbiter.connect() as connection:
            connection.sendall(GET)
            assert read_answer(connection)[0].startswith(b"HTTP/1.1 200")
        return 1

    return client


def kept_connection(arbiter: Arbiter) -> Callable[[Callable[[], bool]], int]:
    """Return a client that keeps its connection until an answer says that it ends."""

    def client(should_stop: Callable[[], bool]) -> int:
        count = 0
        with arbiter.connect() as connection:
            while not should_stop():
                connection.sendall(GET)
                head, _ = read_answer(connection)
                assert head.startswith(b"HTTP/1.1 200")
                count += 1
                if b"connection: close" in head or count == 200:
                    break
        return count

    return client


def test_connection_is_kept_for_the_next_request(gunicorn: Gunicorn) -> None:
    with gunicorn().connect() as client:
        for _ in range(3):
            client.sendall(GET)
            assert read_answer(client)[0].startswith(b"HTTP/1.1 200 OK")


def test_pipelined_requests_are_answered_in_order(gunicorn: Gunicorn) -> None:
    bodies = [b"first", b"x" * 200_000, b"", b"last"]
    with gunicorn().connect() as client:
        head = b"POST /pid HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
        client.sendall(b"".join(head % len(body) + body for body in bodies) + LAST_GET)
        received = read_to_end(client)
    assert [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")[1:5]] == (
        bodies
    )


@pytest.mark.timeout(120)
def test_scaling_and_reloading_under_load_loses_no_request(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn("--workers", "2")
    clients = [fresh_connection(arbiter)] * 4 + [kept_connection(arbiter)] * 4
    with Load(*clients) as load:
        for number, workers in (
            (signal.SIGTTIN, 3),
            (signal.SIGTTOU, 2),
            (signal.SIGTTOU, 1),
            (signal.SIGTTIN, 2),
            (signal.SIGHUP, 2),
            (signal.SIGHUP, 2),
        ):
            before = arbiter.workers
            arbiter.signal(number)
            eventually(
                lambda before=before, workers=workers: (  # type: ignore[misc]
                    arbiter.workers != before and len(arbiter.workers) == workers
                ),
                30,
            )
            load.wait_for(200)
    assert load.failures == []


def test_term_finishes_what_is_in_flight(gunicorn: Gunicorn, tmp_path: Path) -> None:
    arbiter = gunicorn(APP_LOG=str(tmp_path / "life"))
    with arbiter.connect() as busy, arbiter.connect() as idle:
        idle.sendall(GET)
        read_answer(idle)
        busy.sendall(SLOW_GET * 3)
        read_one = threading.Event()
        arbiter.signal(signal.SIGTERM)
        received = read_to_end(busy)
        assert read_to_end(idle) == b""
        assert not read_one.is_set()
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(b"connection: close") == 1
    assert arbiter.wait() == 0
    assert (tmp_path / "life").read_text() == "start\nstop\n"


def test_connection_accepted_before_term_is_served_after_it(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn()
    (worker,) = arbiter.workers
    with arbiter.connect() as client:
        arbiter.signal(signal.SIGTERM)
        eventually(lambda: "Handling signal: term" in arbiter.log.read_text())
        eventually(lambda: not can_connect(arbiter))
        client.sendall(GET)
        head, body = read_answer(client)
        assert b"connection: close" in head
        assert int(body) == worker
    assert arbiter.wait() == 0


def can_connect(arbiter: Arbiter) -> bool:
    try:
        arbiter.connect().close()
    except ConnectionError:
        return False
    return True


def test_term_waits_no_longer_than_the_graceful_timeout(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn("--graceful-timeout", "2")
    with arbiter.connect() as client:
        client.sendall(b"GET /pid?seconds=60 HTTP/1.1\r\nHost: h\r\n\r\n")
        started = time.monotonic()
        arbiter.signal(signal.SIGTERM)
        assert arbiter.wait() == 0
    assert 1.5 < time.monotonic() - started < 4
    assert "Cut 1 connections" in arbiter.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop_waits_for_nothing(gunicorn: Gunicorn, number: signal.Signals) -> None:
    arbiter = gunicorn()
    with arbiter.connect() as client:
        client.sendall(b"GET /pid?seconds=60 HTTP/1.1\r\nHost: h\r\n\r\n")
        started = time.monotonic()
        arbiter.signal(number)
        arbiter.wait()
    assert time.monotonic() - started < 3


def test_slow_clients_are_refused_and_others_served(gunicorn: Gunicorn, tmp_path: Path) -> None:
    arbiter = gunicorn("--config", config_with(tmp_path, "head_seconds=0.5, body_seconds=0.5"))
    head = b"POST /pid HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"
    with ExitStack() as stack:
        slow = [stack.enter_context(arbiter.connect()) for _ in range(50)]
        for number, client in enumerate(slow):
            client.sendall(GET[:20] if number % 2 else head)
        arbiter.get()
        received = [read_to_end(client) for client in slow]
    assert all(each.startswith(b"HTTP/1.1 408 Request Timeout") for each in received)


def test_thousand_idle_connections_leave_the_worker_serving(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn()
    (worker,) = arbiter.workers
    with ExitStack() as stack:
        for _ in range(1005):
            stack.enter_context(closing(arbiter.connect()))
        for _ in range(20):
            assert arbiter.get() == worker
    assert arbiter.get() == worker


def test_killed_worker_is_replaced_while_the_other_serves(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn("--workers", "2")
    first, second = arbiter.workers
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(arbiter.workers) == 2 and first not in arbiter.workers)
    (new,) = set(arbiter.workers) - {second}
    os.kill(second, signal.SIGKILL)
    eventually(lambda: arbiter.get() == new)


def test_worker_leaves_when_the_arbiter_is_gone(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn()
    (worker,) = arbiter.workers
    arbiter.signal(signal.SIGKILL)
    arbiter.wait()
    eventually(lambda: not is_alive(worker))


def test_worker_that_hangs_is_replaced(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn("--timeout", "1")
    (worker,) = arbiter.workers
    os.kill(worker, signal.SIGSTOP)
    eventually(lambda: not is_alive(worker) and arbiter.get() != worker)


def test_worker_that_served_its_share_is_replaced_without_a_loss(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn("--workers", "2", "--max-requests", "200")
    before = set(arbiter.workers)
    with Load(*[fresh_connection(arbiter)] * 4) as load:
        eventually(lambda: not before & set(arbiter.workers), 30)
    assert load.failures == []


def test_application_that_can_not_start_stops_gunicorn(gunicorn: Gunicorn) -> None:
    arbiter = gunicorn(answers=False, APP_FAILS="1")
    assert arbiter.wait() == 3
    assert "The application could not start" in arbiter.log.read_text()


def test_log_files_are_reopened_on_usr1(gunicorn: Gunicorn, tmp_path: Path) -> None:
    error_log = tmp_path / "error.log"
    arbiter = gunicorn("--error-logfile", str(error_log))
    error_log.rename(tmp_path / "old.log")
    arbiter.signal(signal.SIGUSR1)
    eventually(error_log.exists)
    arbiter.get()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a certificate for this host, and its key."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return cert, key


def test_tls_serves_keeps_and_drains(gunicorn: Gunicorn, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    arbiter = gunicorn("--certfile", str(cert), "--keyfile", str(key), answers=False)
    context = ssl.create_default_context(cafile=str(cert))
    eventually(lambda: arbiter.workers)
    with arbiter.connect() as raw, context.wrap_socket(raw, server_hostname=HOST) as client:
        client.sendall(GET)
        read_answer(client)
        client.sendall(SLOW_GET)
        arbiter.signal(signal.SIGTERM)
        head, _ = read_answer(client)
        assert b"connection: close" in head
    assert arbiter.wait() == 0


def test_tls_client_that_says_nothing_is_let_go(
    gunicorn: Gunicorn, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    config = config_with(tmp_path, "head_seconds=0.5")
    arbiter = gunicorn(
        *("--config", config, "--certfile", str(cert), "--keyfile", str(key)), answers=False
    )
    with arbiter.connect() as client:
        assert read_to_end(client) == b""
