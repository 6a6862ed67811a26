"""The check of containers: what it says of a node."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from workers.health import check


@contextmanager
def node(**facts: object) -> Iterator[str]:
    """Serve one answer of `/health`; yield the node's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "healthy", "role": "master", **facts}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, "healthy"),
        ({"read_only": "disk_full"}, "healthy, takes no writes: disk_full"),
        ({"acknowledges_no_writes": "no_quorum"}, "healthy, takes no writes: no_quorum"),
    ],
)
def test_node_that_takes_no_writes_is_said_to(facts: dict[str, object], told: str) -> None:
    with node(**facts) as url:
        assert check(url) == (True, f"master at {url}: {told}")
