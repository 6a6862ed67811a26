"""Where log records go: one line each on standard error, through a queue.

A pipe that nobody reads must not stop a node. So each process puts its lines into a bounded queue
that a thread writes out; where the queue is full, lines are dropped and counted, and the count is
logged when there is room again. Only the processes in this package configure handlers.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from synap.config.keys import Config
    from synap.http.api.access_log import AccessLine


# About a second of a badly failing node; some megabytes at most.
_QUEUE_LINES = 10_000
# How long a process that ends waits for its last lines to go out.
_DRAIN_SECONDS = 1.0
# What a record has without `extra`, and uvicorn's copy of its message for terminals.
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"color_message"}


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, process, logger, message, and the `extra` fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        requests = _requests_of(record)
        if requests:
            return "\n".join([self._request_line(record, request) for request in requests])
        line = {
            "time": _json_time(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()

    def _request_line(self, record: logging.LogRecord, request: AccessLine) -> str:
        line = {
            "time": _json_time(request.time),
            "level": "info",
            "process": self._process,
            "logger": record.name,
            "message": f"{request.method} {request.target} {request.status}",
            "client": request.client,
            "duration_us": request.duration_us,
            "request_id": request.request_id,
            **(request.trace.fields() if request.trace is not None else {}),
        }
        return msgspec.json.encode(line).decode()


class PrettyFormatter(logging.Formatter):
    """A line for people: time, level, process, message, `field=value` for the `extra` fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        requests = _requests_of(record)
        if requests:
            return "\n".join([self._request_line(request) for request in requests])
        time = _local_time(record.created)
        fields = "".join(f" {name}={value}" for name, value in _extra_fields(record).items())
        line = f"{time} {record.levelname:8} {self._process:16} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def _request_line(self, request: AccessLine) -> str:
        traced = request.trace.fields() if request.trace is not None else {}
        return (
            f"{_local_time(request.time)} INFO     {self._process:16} "
            f"{request.method} {request.target} {request.status} client={request.client} "
            f"duration_us={request.duration_us} request_id={request.request_id}"
            + "".join(f" {name}={value}" for name, value in traced.items())
        )


class QueuedHandler(logging.Handler):
    """Writes each record as a line, from a thread of its own once `start` was called.

    Before that it writes at once, which is what a process that is about to fork needs: threads do
    not survive a fork. A line that would have to wait is dropped then. The thread writes with the
    system call itself, so that a blocked one holds no lock that the end of the process would wait
    for.
    """

    def __init__(self, file: int, queue_lines: int = _QUEUE_LINES) -> None:
        super().__init__()
        self._file = file
        self._most_lines = queue_lines
        self._lines: queue.Queue[str | None] = queue.Queue(queue_lines)
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        """Begin to queue."""
        self._thread = threading.Thread(target=self._write_queued, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        count = len(_requests_of(record)) or 1
        # A record of many lines gets less of the queue, so that this is bounded in bytes too.
        if count > 1 and self._lines.qsize() * count >= self._most_lines:
            self.dropped += count
            return
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._thread is None:
            if not _write_without_waiting(self._file, line):
                self.dropped += count
            elif self.dropped:
                self._tell_dropped()
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += count

    def close(self) -> None:
        """Write what is queued, for a bounded time."""
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                self._lines.put(None, timeout=_DRAIN_SECONDS)
                thread.join(_DRAIN_SECONDS)
            except queue.Full:
                self.dropped += 1
        super().close()

    def _write_queued(self) -> None:
        while (line := self._lines.get()) is not None:
            _write(self._file, _encoded(line))
            if self.dropped and self._lines.empty():
                self._tell_dropped()

    def _tell_dropped(self) -> None:
        dropped, self.dropped = self.dropped, 0
        logging.getLogger(__name__).warning(
            "%d log records were dropped: standard error was not read fast enough", dropped,
            extra={"action": "log_drop", "dropped": dropped},
        )  # fmt: skip


def configure(config: Config, process: str) -> QueuedHandler:
    """Send every record of this process to standard error; `start` is left to the caller.

    Args:
        config: Says which format and from which level on.
        process: What the process is, as `writer`; shown after the node's id.
    """
    handler = QueuedHandler(sys.stderr.fileno())
    name = f"{config.server.node_id}/{process}"
    pretty = config.logging.format == "pretty"
    handler.setFormatter(PrettyFormatter(name) if pretty else JsonFormatter(name))
    logging.basicConfig(level=config.logging.level.upper(), handlers=[handler], force=True)
    # Whatever the level: who logged in and who administered is not to be missing.
    logging.getLogger("synap.audit").setLevel(logging.INFO)
    # Asked for by a key of its own, whatever the level of the rest.
    logging.getLogger("synap.access").setLevel(logging.INFO)
    return handler


@contextmanager
def queued_logging(config: Config, process: str) -> Iterator[None]:
    """Log through a queue while the block runs, and write out the rest at its end."""
    handler = configure(config, process)
    handler.start()
    try:
        yield
    finally:
        handler.close()


def _write_without_waiting(file: int, line: str) -> bool:
    """Write `line` as far as that takes no waiting; say whether it is out.

    A pipe that is ready takes as many bytes as it takes at once without a word from its reader.
    """
    data = _encoded(line)
    poller = select.poll()
    poller.register(file, select.POLLOUT)
    while data and poller.poll(0):
        _write(file, data[: select.PIPE_BUF])
        data = data[select.PIPE_BUF :]
    return not data


def _encoded(line: str) -> bytes:
    return line.encode(errors="backslashreplace") + b"\n"


def _write(file: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(file, data) :]
        except OSError:
            # Standard error is closed or broken: there is nowhere left to say so.
            return


def _extra_fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}


def _requests_of(record: logging.LogRecord) -> list[AccessLine]:
    """Return the requests that a record of the access log has gathered."""
    requests: list[AccessLine] = vars(record).get("requests", [])
    return requests


def _json_time(seconds: float) -> str:
    second, ms = divmod(int(seconds * 1000), 1000)
    return f"{_json_second(second)}.{ms:03d}Z"


def _local_time(seconds: float) -> str:
    second, ms = divmod(int(seconds * 1000), 1000)
    return f"{_local_second(second)}.{ms:03d}"


# Of the access log's lines, many have the same one; a clock that is set back changes nothing.
@lru_cache(maxsize=2)
def _json_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


@lru_cache(maxsize=2)
def _local_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).astimezone().strftime("%H:%M:%S")
