"""Pages in a real browser: those of other sites change nothing here, the node's own are served."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from synap.http.api.openapi.routes import ROUTES as DESCRIBED
from tests.support import HOST, Node

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
DEADLINE_SECONDS = 50
BODY = {
    "key": "some", "value": "changed", "pairs": [["some", "changed"]], "keys": ["some"],
    "destination": "other", "command": "kv.set", "ttl": 1000, "offset": 0, "seconds": 1,
    "payload": {"key": "some", "value": "changed"}, "force": True, "master_address": "h.example:1",
    "username": "eve", "password": "correct horse", "role": "admin", "name": "eve's",
}  # fmt: skip
# One body for all routes: none may refuse it for the fields of the others.
ANY_BODY = {"server.unknown_fields": "ignore"}
ROUTES = [
    {"method": operation.method, "path": re.sub(r"{\w+}", "some", operation.path)}
    for operations in DESCRIBED.values()
    for operation in operations
    if operation.method != "GET"
]
# Asks for every route in each way that a page has, then tells its own server what it saw.
SCRIPT = """
const { node, routes, body, headers } = CASE;
const text = JSON.stringify(body);
const seen = { opaque: 0, failed: 0, statuses: {} };
async function ask(route, options) {
  try {
    const answer = await fetch(node + route.path, { method: route.method, ...options });
    if (answer.type === "opaque") seen.opaque += 1;
    else seen.statuses[`${route.method} ${route.path}`] = answer.status;
  } catch { seen.failed += 1; }
}
function post(route, enctype) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    const form = document.createElement("form");
    const field = document.createElement("textarea");
    frame.name = `f${Math.random()}`;
    frame.onload = resolve;
    document.body.append(frame, form);
    // Of enctype text/plain this is JSON but for its last member's name.
    field.name = text.slice(0, -1) + ',"x';
    field.value = '":""}';
    form.append(field);
    Object.assign(form, { method: "post", enctype, action: node + route.path, target: frame.name });
    form.submit();
    setTimeout(resolve, 2000);
  });
}
async function run() {
  for (const route of routes) {
    for (const type of [undefined, "text/plain", "application/x-www-form-urlencoded"]) {
      const blob = new Blob([text], type && { type });
      await ask(route, { mode: "no-cors", body: blob, credentials: "include" });
      await ask(route, { mode: "cors", body: blob });
    }
    await ask(route, { mode: "no-cors" });
    await ask(route, { mode: "cors", body: text, headers });
    navigator.sendBeacon(node + route.path, new Blob([text]));
    if (route.method === "POST") {
      await post(route, "text/plain");
      await post(route, "application/x-www-form-urlencoded");
    }
  }
  await fetch("/report", { method: "POST", body: JSON.stringify(seen) });
}
addEventListener("load", run);
"""

pytestmark = pytest.mark.timeout(120)


class Site:
    """Another site: serves one page and takes what its script reports."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.reports: Queue[dict[str, Any]] = Queue()
        page = f"<body><script>{SCRIPT.replace('CASE', json.dumps(case))}</script>".encode()
        reports = self.reports

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(page)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(b"")
                reports.put(json.loads(body))

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://{HOST}:{self.server.server_address[1]}"


@contextmanager
def site(node: Node, routes: list[dict[str, str]], **headers: str) -> Iterator[Site]:
    case = {"node": f"http://{HOST}:{node.port}", "routes": routes, "body": BODY}
    served = Site(case | {"headers": {"Content-Type": "application/json"} | headers})
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        thread.join()
        served.server.server_close()


def chromium(folder: Path, *arguments: str) -> list[str]:
    assert CHROMIUM is not None, "these tests need Debian's chromium; .ci/run installs it"
    return [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]


def report_of(page: Site, folder: Path) -> dict[str, Any]:
    """Open the page and return what its script tells."""
    with (folder / "chromium.log").open("wb") as log:
        command = chromium(folder, "--remote-debugging-port=0", page.origin)
        browser = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return page.reports.get(timeout=DEADLINE_SECONDS)
        finally:
            browser.terminate()
            browser.wait(DEADLINE_SECONDS)


def dumped(folder: Path, url: str, *arguments: str) -> str:
    """Return a page as it is when its scripts have run, and what the browser logs of it."""
    command = chromium(folder, *arguments, "--virtual-time-budget=5000", "--dump-dom", url)
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE_SECONDS, check=False)
    return done.stdout.decode() + done.stderr.decode(errors="replace")


def state_of(node: Node) -> tuple[Any, ...]:
    """Return what any change would show in."""
    digest = node.request("GET", "/digest").json()
    replication = node.request("GET", "/health/replication").json()
    snapshots = sorted(path.name for path in (node.data_dir / "snapshots").glob("*"))
    return digest["digest"], digest["offset"], replication["role"], replication["epoch"], snapshots


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    settings = {"persistence.snapshot.enabled": False, **ANY_BODY}
    with Node(tmp_path, "browsed", settings) as node:
        assert node.request("POST", "/kv/set", {"key": "some", "value": "kept"}).status == 200
        yield node


def test_page_of_another_site_changes_nothing(node: Node, tmp_path: Path) -> None:
    before = state_of(node)
    with site(node, ROUTES) as page:
        seen = report_of(page, tmp_path)
    assert seen["opaque"], "the page reached the node"
    assert seen["statuses"] == {}, "the page could read no answer"
    assert state_of(node) == before


def test_page_of_a_listed_origin_is_served(tmp_path: Path) -> None:
    routes = [{"method": "POST", "path": "/kv/set"}]
    node = Node(tmp_path, "browsed", dict(ANY_BODY))
    with site(node, routes) as page:
        node.settings["server.cors_origins"] = page.origin
        with node:
            seen = report_of(page, tmp_path)
            assert seen["statuses"] == {"POST /kv/set": 200}
            assert node.request("GET", "/kv/get/some").json() == "changed"


def test_page_of_a_name_that_leads_here_reads_nothing(node: Node, tmp_path: Path) -> None:
    rebound = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    url = f"http://evil.example:{node.port}/kv/get/some"
    assert "host_not_allowed" in dumped(tmp_path, url, rebound)
    own = f"http://127.0.0.1:{node.port}/kv/get/some"
    assert "kept" in dumped(tmp_path, own)


def test_own_page_is_served(node: Node, tmp_path: Path) -> None:
    page = dumped(tmp_path, f"http://127.0.0.1:{node.port}/docs", "--enable-logging=stderr")
    assert 'data-path="/kv/get/{key}"' in page
    assert "Content Security Policy" not in page
