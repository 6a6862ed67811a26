"""The programs of `examples/` do what they say, on a real node and in a real browser."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from tests.support import HOST, Node, eventually
from tests.system.test_browser import DEADLINE_SECONDS, chromium

pytestmark = pytest.mark.timeout(120)

EXAMPLES = Path(__file__).parents[2] / "examples"
# Tells the server of the page what stands in its table, whenever that changes.
REPORTER = """<script>
new MutationObserver(() => {
  const cells = [...document.querySelectorAll("#keys tr")].map((row) => row.innerText.split("\\t"));
  fetch("/report", { method: "POST", body: JSON.stringify(cells) });
}).observe(document.getElementById("keys"), { childList: true });
</script>"""


@pytest.fixture
def node(module_node: Node) -> Node:
    if not module_node.is_running:
        module_node.start()
    return module_node


def put(node: Node, key: str, value: str) -> None:
    answer = node.request("POST", "/kv/set", {"key": key, "value": value})
    assert answer.status == 200


def test_cache_forgets_what_is_changed_elsewhere(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from cache import Cache  # noqa: PLC0415

    cache = Cache(f"http://{HOST}:{node.port}", "user:")
    put(node, "user:1", "Ann")
    try:
        eventually(lambda: cache.get("user:1") == "Ann" and cache.hits > 0)
        misses = cache.misses
        assert [cache.get("user:1") for _ in range(5)] == ["Ann"] * 5
        assert cache.misses == misses
        put(node, "user:1", "Bob")
        eventually(lambda: cache.get("user:1") == "Bob")
        put(node, "user:1", "Eve")
        node.kill()
        node.start()
        put(node, "user:1", "Joe")
        eventually(lambda: cache.get("user:1") == "Joe")
        hits = cache.hits
        eventually(lambda: cache.get("user:1") == "Joe" and cache.hits > hits)
    finally:
        cache.close()


def test_cache_runs_as_a_program(node: Node) -> None:
    put(node, "user:1", "Ann")
    command = [sys.executable, EXAMPLES / "cache.py", f"http://{HOST}:{node.port}", "user:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        first = program.stdout.readline()
        program.kill()
    assert first.startswith("user:1 Ann")


@contextmanager
def page_of(reports: Queue[Any]) -> Iterator[str]:
    """Serve the page, with a script that tells what it shows; yield its origin."""
    content = (EXAMPLES / "live.html").read_text().replace("</html>", REPORTER + "</html>").encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(content)

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shown(reports: Queue[Any], wanted: list[list[str]]) -> Any:
    """Return what the page shows: at once when it is `wanted`, else the last of it in time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    seen = None
    with suppress(Empty):
        while seen != wanted:
            seen = reports.get(timeout=max(0.0, deadline - time.monotonic()))
    return seen


def test_page_follows_the_keys_over_a_restart_of_the_node(tmp_path: Path) -> None:
    reports: Queue[Any] = Queue()
    with page_of(reports) as origin:
        node = Node(tmp_path / "node", "live", {"server.cors_origins": origin})
        with node, (tmp_path / "chromium.log").open("wb") as log:
            put(node, "user:1", "Ann")
            put(node, "other", "x")
            url = f"{origin}/?node=http://{HOST}:{node.port}&prefix=user:"
            command = chromium(tmp_path, "--remote-debugging-port=0", url)
            browser = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                assert shown(reports, wanted := [["user:1", "Ann"]]) == wanted
                put(node, "user:2", "Bob")
                assert shown(reports, wanted := [["user:1", "Ann"], ["user:2", "Bob"]]) == wanted
                node.request("DELETE", "/kv/del/user:1")
                assert shown(reports, wanted := [["user:2", "Bob"]]) == wanted
                node.stop()
                node.start()
                put(node, "user:2", "Eve")
                assert shown(reports, wanted := [["user:2", "Eve"]]) == wanted
            finally:
                browser.terminate()
                browser.wait(DEADLINE_SECONDS)
