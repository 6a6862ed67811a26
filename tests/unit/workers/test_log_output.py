"""Log lines, and what happens when nobody reads them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from synap.http.api.access_log import AccessLine
from synap.http.api.traces import Trace
from tests.support import eventually, fill_pipe
from workers.log_output import JsonFormatter, PrettyFormatter, QueuedHandler


def record_of(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    fields = {"msg": message, "args": arguments, "name": "synap.wal", "levelname": "WARNING"}
    return logging.makeLogRecord({**fields, "created": 0.25, **extra})


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def test_json_line_has_message_and_extra_fields() -> None:
    record = record_of("%d bytes were cut", 7, action="torn_tail", path="x.wal")
    assert json.loads(JsonFormatter("n1/writer").format(record)) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "process": "n1/writer",
        "logger": "synap.wal",
        "message": "7 bytes were cut",
        "action": "torn_tail",
        "path": "x.wal",
    }


def test_json_line_with_an_unknown_type_holds_its_text() -> None:
    line = JsonFormatter("n1/writer").format(record_of("failed", error=OSError("no disk")))
    assert json.loads(line)["error"] == "no disk"


def test_pretty_line_ends_with_the_fields() -> None:
    line = PrettyFormatter("n1/writer").format(record_of("resync", replica="r1"))
    assert line.endswith("WARNING  n1/writer        resync replica=r1")


def test_handler_before_its_start_writes_at_once() -> None:
    with pipe() as (reader, writer):
        QueuedHandler(writer).emit(record_of("hello"))
        assert os.read(reader, 100) == b"hello\n"


def test_handler_that_ends_has_written_everything() -> None:
    with pipe() as (reader, writer):
        handler = QueuedHandler(writer)
        handler.start()
        for number in range(100):
            handler.emit(record_of("line %d", number))
        handler.close()
        assert os.read(reader, 100_000).count(b"\n") == 100


def test_handler_with_a_blocked_pipe_drops_and_counts() -> None:
    with pipe() as (reader, writer):
        fill_pipe(writer)
        handler = QueuedHandler(writer, queue_lines=10)
        handler.start()
        for _ in range(300):
            handler.emit(record_of("x" * 1000))
        assert handler.dropped > 200
        eventually(lambda: os.read(reader, 1 << 20) and handler._lines.empty())
        handler.close()


def test_handler_before_its_start_waits_for_nobody_and_tells_what_it_dropped() -> None:
    with pipe() as (reader, writer):
        handler = QueuedHandler(writer)
        logger = logging.getLogger("workers.log_output")
        logger.addHandler(handler)
        try:
            for _ in range(200):
                handler.emit(record_of("x" * 1000))
            dropped = handler.dropped
            assert dropped > 100
            os.read(reader, 1 << 20)
            handler.emit(record_of("there is room"))
            lines = os.read(reader, 1 << 20).decode().splitlines()
        finally:
            logger.removeHandler(handler)
        assert lines[0] == "there is room"
        assert lines[1].startswith(f"{dropped} log records were dropped")


def test_handler_before_its_start_writes_long_lines_whole() -> None:
    with pipe() as (reader, writer):
        QueuedHandler(writer).emit(record_of("ä" * 10_000))
        assert os.read(reader, 1 << 20).decode() == "ä" * 10_000 + "\n"


REQUEST = AccessLine(0.25, "10.0.0.1", "GET", "/kv/get/a", 200, 17, "r1")


@pytest.mark.parametrize(
    ("formatter", "told"),
    [(JsonFormatter, '"trace_id":"4bf9","span_id":"00f0"}'),
     (PrettyFormatter, "trace_id=4bf9 span_id=00f0")],
)  # fmt: skip
def test_line_of_a_traced_request_ends_with_its_trace(
    formatter: type[logging.Formatter], told: str
) -> None:
    traced = msgspec.structs.replace(REQUEST, trace=Trace("4bf9", "00f0", True))
    record = record_of("1 requests", requests=[traced])
    assert formatter("n1/http").format(record).endswith(told)


def test_gathered_requests_get_a_json_line_each() -> None:
    record = record_of("2 requests", requests=[REQUEST, REQUEST])
    lines = JsonFormatter("n1/http").format(record).splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0]) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "process": "n1/http",
        "logger": "synap.wal",
        "message": "GET /kv/get/a 200",
        "client": "10.0.0.1",
        "duration_us": 17,
        "request_id": "r1",
    }


def test_gathered_requests_get_a_pretty_line_each() -> None:
    record = record_of("2 requests", requests=[REQUEST, REQUEST])
    lines = PrettyFormatter("n1/http").format(record).splitlines()
    ending = "GET /kv/get/a 200 client=10.0.0.1 duration_us=17 request_id=r1"
    assert [line.endswith(ending) for line in lines] == [True, True]


def test_gathered_requests_take_their_share_of_the_queue() -> None:
    with pipe() as (reader, writer):
        fill_pipe(writer)
        handler = QueuedHandler(writer, queue_lines=1000)
        handler.start()
        for _ in range(300):
            handler.emit(record_of("100 requests", requests=[REQUEST] * 100))
        assert handler.dropped >= 25_000
        assert handler._lines.qsize() <= 10
        eventually(lambda: os.read(reader, 1 << 20) and handler._lines.empty())
        handler.close()
