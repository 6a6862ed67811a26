"""The corpus of malformed requests over raw sockets against a real node."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import HOST, Node, children_of
from tests.system.malformed import Case, cases

CASES = list(cases())
# More than there are cases that wait for the server's patience.
CLIENTS = 24
ANSWER_SECONDS = 15.0
ANSWER = re.compile(
    rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\x00]*\r\n)*)\r\n"
)


# uvicorn answers in its own form where the framing is wrong, and its patience is its own.
CASES_BY_WORKER = {"synap": CASES, "uvicorn": [case for case in CASES if case.is_http]}


@pytest.fixture(scope="module", params=CASES_BY_WORKER)
def worker_class(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def node(worker_class: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with little patience and small limits."""
    settings = {
        "server.workers": 2,
        "server.max_request_size_mb": 1,
        "server.request_timeout_secs": 1,
        "kv_store.max_value_size_bytes": 100_000,
    }
    folder: Path = tmp_path_factory.mktemp("malformed")
    with Node(folder, "node", settings, {"SYNAP_WORKER_CLASS": worker_class}) as node:
        yield node


def exchange(port: int, case: Case) -> bytes:
    """Send a case and return everything that came back until the server's end.

    Raises:
        OSError: the connection was reset, or the server did not end it in time.
    """
    with socket.create_connection((HOST, port), ANSWER_SECONDS) as client:
        client.sendall(case.sent)
        if case.ends:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def statuses_in(received: bytes) -> list[int]:
    """Return the statuses of the answers, having checked the form of each.

    Raises:
        AssertionError: something is no answer, or an error is not of the contract's form.
    """
    statuses = []
    while received:
        head = ANSWER.match(received)
        assert head is not None, f"no answer begins with {received[:200]!r}"
        status = int(head[1])
        fields = dict(line.lower().split(b": ", 1) for line in head[2].splitlines())
        length = int(fields.get(b"content-length", b"0"))
        body, received = received[head.end() :][:length], received[head.end() + length :]
        assert len(body) == length
        if status >= 400:
            error = json.loads(body)
            assert (error["code"], fields[b"content-type"]) == (status, b"application/json")
            assert error["error"]
            assert re.fullmatch("[a-z_]+", error["reason"])
            assert error["retryable"] in (True, False)
        statuses.append(status)
    return statuses


def fault_of(port: int, case: Case) -> str:
    """Return what is wrong with the outcome of a case; nothing where it is as it should be."""
    try:
        statuses = statuses_in(exchange(port, case))
    except (OSError, AssertionError, ValueError, KeyError) as error:
        return f"{case.name}: {error!r}"
    if not set(statuses) <= case.statuses:
        return f"{case.name}: {statuses[:5]}, allowed is {sorted(case.statuses)}"
    if case.answers is not None and len(statuses) != case.answers:
        return f"{case.name}: {len(statuses)} answers, expected {case.answers}"
    return ""


@pytest.mark.timeout(120)
def test_malformed_requests_are_refused_and_harm_nothing(node: Node, worker_class: str) -> None:
    workers = children_of(node.http_pid())
    with ThreadPoolExecutor(CLIENTS) as clients:
        faults = clients.map(lambda case: fault_of(node.port, case), CASES_BY_WORKER[worker_class])
    assert not (found := [fault for fault in faults if fault]), "\n".join(found)
    assert "Traceback" not in node.log
    assert children_of(node.http_pid()) == workers
    assert node.is_healthy()
