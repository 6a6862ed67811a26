"""HAProxy with the file that is shipped: what it tells the nodes, and whom it shows its page."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.integration.http_support import make_config, serving
from tests.support import HOST, Answer, eventually, free_ports

OPS = Path(__file__).parents[2] / "ops"
# Debian keeps it where users' PATH does not lead.
HAPROXY = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
PASSWORD = "correct horse"
FORGED = {
    "X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example", "Host": "db.example:15600",
}  # fmt: skip


# Of a stream, by its client.
FIRST_IS_HAD = threading.Event()


class Echo(BaseHTTPRequestHandler):
    """A node that is always the master, and answers with the headers that it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/watch"):
            self._stream()
            return
        told = [pair for pair in self.headers.items() if pair[0].lower().startswith("x-forwarded")]
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        """Send a line, and the end when the client has had it."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"6\r\nfirst\n\r\n")
        assert FIRST_IS_HAD.wait(10)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def shipped(name: str) -> str:
    """Return the configuration, as Compose has it or as Kubernetes has."""
    if name == "compose":
        return (OPS / "haproxy.cfg").read_text()
    manifests = yaml.safe_load_all((OPS / "kubernetes/proxy.yaml").read_text())
    text: str = next(m for m in manifests if m["kind"] == "ConfigMap")["data"]["haproxy.cfg"]
    return text


@contextmanager
def running_haproxy(folder: Path, text: str, environment: dict[str, str]) -> Iterator[None]:
    """Run it with the configuration `text`."""
    (folder / "haproxy.cfg").write_text(text)
    assert HAPROXY is not None, "these tests need haproxy; .ci/run installs it"
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [HAPROXY, "-db", "-f", folder / "haproxy.cfg"],
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def proxy(folder: Path, name: str, environment: dict[str, str]) -> Iterator[dict[str, int]]:
    """Run it before an echo; yield the ports that it listens on, by those in the file."""
    node = ThreadingHTTPServer((HOST, 0), Echo)
    node.daemon_threads = True
    thread = threading.Thread(target=node.serve_forever)
    thread.start()
    text = re.sub(r" synap-[\w.-]+:15500", f" {HOST}:{node.server_address[1]}", shipped(name))
    named = re.findall(r"bind :(\d+)", text)
    ports = dict(zip(named, free_ports(len(named)), strict=True))
    for port, free in ports.items():
        text = text.replace(f"bind :{port}", f"bind {HOST}:{free}")
    try:
        with running_haproxy(folder, text, environment):
            yield ports
    finally:
        node.shutdown()
        thread.join()
        node.server_close()


def ask(
    port: int, path: str, headers: dict[str, str], own: tuple[str, int] | None = None
) -> Answer | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=5, source_address=own)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    except OSError:
        return None
    finally:
        connection.close()


def served(port: int, path: str, headers: dict[str, str]) -> Answer:
    """Return the first answer that is not 503."""

    def look() -> Answer | None:
        answer = ask(port, path, headers)
        return None if answer is None or answer.status == 503 else answer

    found = eventually(look)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_proxy_tells_who_asks_and_drops_what_the_client_says(tmp_path: Path, name: str) -> None:
    with proxy(tmp_path, name, {}) as ports:
        for front in set(ports) - {"15601"}:
            told = served(ports[front], "/kv/get/a", FORGED).json()
            assert sorted(told) == [
                ["x-forwarded-for", HOST],
                ["x-forwarded-host", "db.example:15600"],
                ["x-forwarded-proto", "http"],
            ]


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_stream_passes_line_by_line(tmp_path: Path, name: str) -> None:
    FIRST_IS_HAD.clear()
    with proxy(tmp_path, name, {}) as ports:
        served(ports["15600"], "/kv/get/a", {})
        connection = http.client.HTTPConnection(HOST, ports["15600"], timeout=10)
        connection.request("GET", "/watch", headers={"Accept": "application/x-ndjson"})
        answer = connection.getresponse()
        assert answer.readline() == b"first\n"
        FIRST_IS_HAD.set()
        assert answer.read() == b""
        connection.close()


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_page_of_statistics_wants_its_password(tmp_path: Path, name: str) -> None:
    right = {"Authorization": "Basic " + b64encode(f"synap:{PASSWORD}".encode()).decode()}
    with proxy(tmp_path, name, {"SYNAP_STATISTICS_PASSWORD": PASSWORD}) as ports:
        page = ports["15601"]
        assert served(page, "/ok", {}).status == 200
        assert served(page, "/", {}).status == 401
        assert served(page, "/;csv", {}).status == 401
        assert served(page, "/;csv", right).status == 200


@pytest.mark.parametrize("environment", [{}, {"SYNAP_STATISTICS_PASSWORD": ""}])
def test_page_of_statistics_is_off_without_a_password(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    empty = {"Authorization": "Basic " + b64encode(b"synap:").decode()}
    with proxy(tmp_path, "compose", environment) as ports:
        assert served(ports["15601"], "/ok", {}).status == 200
        assert served(ports["15601"], "/", {}).status == 403
        assert served(ports["15601"], "/;csv", empty).status == 403


PASSING_ON = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend front
    bind 127.0.0.1:{front}
    default_backend back
backend back
    server node 127.0.0.1:{node} send-proxy-v2
"""


@pytest.mark.parametrize(("trusted", "seen"), [("127.0.0.1", "127.0.0.2"), ("192.0.2.1", None)])
def test_client_is_known_behind_a_proxy_that_passes_connections_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trusted: str, seen: str | None
) -> None:
    config = make_config(
        tmp_path, server__trusted_proxies=trusted, server__proxy_protocol="true",
        logging__access="true",
    )  # fmt: skip
    front = free_ports(1)[0]
    caplog.set_level("INFO", "synap.access")
    with serving(config) as node:
        text = PASSING_ON.format(front=front, node=node.port)
        with running_haproxy(tmp_path, text, {}):
            answer = eventually(lambda: ask(front, "/", {}, ("127.0.0.2", 0)))
        assert node.get("/").status == 200
    clients = {line.client for record in caplog.records for line in record.requests}
    assert answer.status == (200 if seen else 400)
    assert clients == ({seen, HOST} if seen else {HOST})
