"""CPU time of requests as clients and proxies send them, beside the plain ones of the same run.

Whoever sends the same head again and again is a benchmark. Here heads have what real ones have,
another text each time, and the node has authentication, a rate limit or an access log. Each row is
measured in turns with the plain GET or SET of a node without any of it.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ops.bench import two_writes
from ops.bench.cpu import cpu_seconds
from ops.bench.data import FAULTS
from ops.bench.errors import MeasurementFailed
from ops.bench.programs import require_program
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode
from ops.bench.wrk import drive
from ops.client import Client

TITLE = "Real requests"
HEADER = ("", "CPU µs", "plain, CPU µs", "ratio", "goal")
_DEADLINE_SECONDS = 30
_SCRIPT = Path(__file__).with_name("real.lua")
_PASSWORD = "correct horse"
_BASIC = "Basic " + b64encode(f"root:{_PASSWORD}".encode()).decode()
_AUTH = {"auth.enabled": "true", "auth.root.password": _PASSWORD}
_LIMIT = {
    "rate_limit.enabled": "true",
    "rate_limit.requests_per_second": 1_000_000,
    "rate_limit.burst_size": 1_000_000,
}
_ACCESS = {"logging.access": "true", "logging.level": "info"}
# What stands for a node's own certificate, and for a key that is made for the run.
_TLS = {"server.tls.cert_path": "", "server.tls.key_path": ""}
_BEARER = "Bearer"
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: For the table.
        kind: Of the load, as in real.lua.
        settings: Of its node.
        credentials: Value of Authorization; "-" for none, _BEARER for a key of the node's.
        goal: What the ratio should at most be.
        splits: Whether head and body are sent in two writes; the plain one is sent by the same
            client in one.
    """

    name: str
    kind: str
    settings: Mapping[str, object] = field(default_factory=dict)
    credentials: str = "-"
    goal: float = 1.25
    splits: bool = False

    @property
    def plain(self) -> str:
        """The kind that it is held against."""
        reads = ("get", "raw-get", "mget", "sdk-get")
        return "get" if self.kind.startswith(reads) else "set"


ROWS = (
    Row("GET with a trace", "get-trace"),
    Row("GET with five headers of proxies", "get-proxy"),
    Row("GET as HAProxy passes it on", "get-haproxy"),
    Row("GET with a request id", "get-id"),
    Row("GET, Basic", "get", _AUTH, _BASIC),
    Row("GET, Basic, with a trace", "get-trace", _AUTH, _BASIC),
    Row("GET, Bearer", "get", _AUTH, _BEARER),
    Row("GET, Bearer, with a trace", "get-trace", _AUTH, _BEARER),
    Row("GET, TLS", "get", _TLS),
    Row("GET, rate limit", "get", _LIMIT),
    Row("GET, access log", "get", _ACCESS, goal=1.35),
    Row("GET that waits for a position that is reached", "get-position"),
    Row("GET of a version that the client has", "get-same"),
    Row("GET of a raw value", "raw-get"),
    Row("mget of 3", "mget"),
    Row("SDK, kv.get", "sdk-get"),
    Row("SET with a trace", "set-trace"),
    Row("SET, values of 1 to 1000 bytes", "set-lengths"),
    Row("SET, Basic", "set", _AUTH, _BASIC),
    Row("SET, Bearer", "set", _AUTH, _BEARER),
    Row("SET, TLS", "set", _TLS),
    Row("SET, head and body in two writes", "set", splits=True),
    Row("SDK, kv.set", "sdk-set"),
    Row("PUT of a raw value", "raw-put"),
    Row("DELETE", "delete"),
    Row("incr", "incr"),
)


def run(settings: Settings) -> Section:
    """Measure every row."""
    rows: list[tuple[str, ...]] = []
    faults: list[str] = []
    try:
        with ExitStack() as stack:
            nodes = _Nodes(settings, stack)
            rows = [_cells(row, *_measure(nodes, row, settings)) for row in ROWS]
    except FAULTS as error:
        faults.append(str(error))
    text = (
        f"wrk with 1 thread and {settings.connections} connections, one key, a value of 64 bytes; "
        f"medians of {settings.rounds} rounds of {settings.seconds} s, each in turns with the "
        "plain GET or SET of a node with the configuration's defaults. CPU time is that of all of "
        "a node's processes a request, in user and kernel mode; the ratio is the median of the "
        "rounds' ratios. Traces, addresses and ids differ with each request. Where head and body "
        "come in two writes, a client of the benchmark's own sends both that and the plain SET."
    )
    return Section(TITLE, text, HEADER, rows, faults)


class _Nodes:
    """The nodes, each started when it is first asked for."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._folder = settings.folder
        self._stack = stack
        self._nodes: dict[str, SynapNode] = {}
        self._bearers: dict[SynapNode, str] = {}

    def get(self, settings: Mapping[str, object]) -> SynapNode:
        name = repr(sorted(settings))
        if name not in self._nodes:
            made = tempfile.TemporaryDirectory(prefix="b", dir=self._folder)
            place = Path(self._stack.enter_context(made))
            if settings is _TLS:
                settings = _certificate(place)
            node = SynapNode(place, "periodic", settings)
            self._nodes[name] = self._stack.enter_context(node)
            # With a load of its own: a node with authentication takes no other writes.
            credentials = _BASIC if "auth.enabled" in settings else "-"
            drive(node.url, _SCRIPT, ["set", credentials], 1, 1)
        return self._nodes[name]

    def credentials(self, node: SynapNode, credentials: str) -> str:
        """Return the value of Authorization; a key is made when the first is asked for."""
        if credentials != _BEARER:
            return credentials
        if node not in self._bearers:
            with Client(node.url) as client:
                answer = client.request(
                    "POST", "/auth/keys", b'{"name":"bench"}', {"Authorization": _BASIC}
                )
            if answer.status != 200:
                raise MeasurementFailed(f"POST /auth/keys answered {answer.status}")
            self._bearers[node] = f"Bearer {answer.json()['key']['key']}"
        return self._bearers[node]


def _certificate(folder: Path) -> dict[str, object]:
    """Make a certificate and its key; return the settings that name them."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [require_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-days", "1", "-subj", f"/CN={_HOST}", "-addext", f"subjectAltName=IP:{_HOST}"]
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=_DEADLINE_SECONDS)
    return {"server.tls.cert_path": cert, "server.tls.key_path": key}


def _measure(nodes: _Nodes, row: Row, settings: Settings) -> tuple[list[float], list[float]]:
    """Return CPU µs a request of the row's rounds, and of the plain ones beside them."""
    own, plain = nodes.get(row.settings), nodes.get({})
    credentials = nodes.credentials(own, row.credentials)
    figures: tuple[list[float], list[float]] = ([], [])
    for number in range(settings.rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for side in order:
            if side == 0:
                figure = _round(own, row, [row.kind, credentials], settings)
            else:
                figure = _round(plain, row, [row.plain, "-"], settings, is_plain=True)
            figures[side].append(figure)
    return figures


def _round(
    node: SynapNode, row: Row, load: list[str], settings: Settings, *, is_plain: bool = False
) -> float:
    pids = node.pids()
    connections, seconds = settings.connections, settings.seconds
    before = cpu_seconds(pids)
    if row.splits:
        requests = two_writes.drive(node.url, connections, seconds, splits=not is_plain)
    else:
        requests = drive(node.url, _SCRIPT, load, connections, seconds).requests
    return (cpu_seconds(pids) - before) / requests * 1e6


def _cells(row: Row, own: list[float], plain: list[float]) -> tuple[str, ...]:
    ratio = statistics.median(a / b for a, b in zip(own, plain, strict=True))
    times = (f"{statistics.median(each):.1f}" for each in (own, plain))
    return (row.name, *times, f"{ratio:.2f}", f"{row.goal:g}")
