"""Spans of sampled requests, for a collector of OpenTelemetry. Imported where one is configured.

A request whose client says in `traceparent` that its trace is kept becomes a span of it; of those
without a trace, as many as `telemetry.sample_ratio` says begin one. A span is made when its answer
is, and sent by a thread of the library's own: no request waits for the collector, and what it does
not take is dropped.

Source: OpenTelemetry's semantic conventions for HTTP spans, of servers.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from synap import __version__

if TYPE_CHECKING:
    from synap.config.keys import Config
    from synap.http.api.access_log import Answered

# Of one attempt to hand spans over.
_SEND_SECONDS = 2
# How long the worker's end waits for the last ones.
_END_SECONDS = 0.3


class Spans:
    """Makes spans of requests that were answered, from `start` to `close`."""

    def __init__(self, config: Config) -> None:
        self._ratio = config.telemetry.sample_ratio
        self._endpoint = f"{config.telemetry.endpoint}/v1/traces"
        self._facts = {
            "service.name": "synap",
            "service.version": __version__,
            "service.instance.id": config.server.node_id,
        }

    def start(self) -> None:
        """Begin, in the process that serves: the library has a thread."""
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(self._facts), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=_SEND_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("synap")

    def close(self) -> None:
        """Send what is left, as far as that does not take long."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_END_SECONDS)

    def note(self, answered: Answered) -> None:
        """Make a span of a request, if it is one of those that are kept."""
        trace = answered.trace
        if trace is None:
            if not self._ratio or random.random() >= self._ratio:
                return
            parent = None
        elif not trace.is_sampled:
            return
        else:
            flags = TraceFlags(TraceFlags.SAMPLED)
            caller = SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), True, flags)
            parent = set_span_in_context(NonRecordingSpan(caller))
        ended_ns = time.time_ns()
        span = self._tracer.start_span(
            f"{answered.method} {answered.route}",
            parent,
            SpanKind.SERVER,
            {
                "http.request.method": answered.method,
                "http.route": answered.route,
                "http.response.status_code": answered.status,
                "client.address": answered.client,
                "synap.request_id": answered.request_id,
            },
            start_time=ended_ns - answered.elapsed_ns,
        )
        if answered.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)

    def flush(self) -> None:
        """Leave it to `close`."""
