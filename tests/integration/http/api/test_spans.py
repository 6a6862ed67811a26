"""Spans of sampled requests, as a collector gets them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.integration.http_support import make_config, serving
from tests.support import HOST

collected = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: Queue[bytes] = Queue()
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers.get("Content-Encoding") == "gzip"
                bodies.put(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{HOST}:{self.server.server_address[1]}"

    def spans(self) -> list[Any]:
        """Return the next spans that come."""
        request = collected.ExportTraceServiceRequest()
        request.ParseFromString(self.bodies.get(timeout=20))
        return [
            span
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


def test_sampled_request_is_a_span_of_its_clients_trace(
    tmp_path: Path, collector: Collector
) -> None:
    config = make_config(tmp_path, telemetry__endpoint=collector.url)
    with serving(config) as client:
        for flag, path in (("01", "/"), ("00", "/health"), ("01", "/kv/get/a")):
            client.get(path, {"traceparent": f"00-{TRACE}-{CALLER}-{flag}"})
        client.get("/liveness")
    spans = collector.spans()
    assert [each.name for each in spans] == ["GET /", "GET /kv/get/{key}"]
    assert {each.trace_id.hex() for each in spans} == {TRACE}
    assert {each.parent_span_id.hex() for each in spans} == {CALLER}
    told = {each.key: each.value for each in spans[1].attributes}
    assert told["http.response.status_code"].int_value == 503
    assert 0 < spans[0].end_time_unix_nano - spans[0].start_time_unix_nano < 10**10


def test_part_of_the_requests_without_a_trace_begin_one(
    tmp_path: Path, collector: Collector
) -> None:
    config = make_config(
        tmp_path, telemetry__endpoint=collector.url, telemetry__sample_ratio=1, logging__access=True
    )
    with serving(config) as client:
        client.get("/")
    (span,) = collector.spans()
    assert span.parent_span_id == b""


def test_collector_that_is_away_holds_up_nothing(tmp_path: Path) -> None:
    config = make_config(
        tmp_path, telemetry__endpoint="http://127.0.0.1:9", telemetry__sample_ratio=1
    )
    with serving(config) as client:
        assert client.get("/").status == 200
