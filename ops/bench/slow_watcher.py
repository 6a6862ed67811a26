"""What one watcher that reads nothing does to the delays of many that do."""

from __future__ import annotations

import selectors
import socket
import threading
import time

from ops.bench.errors import MeasurementFailed
from ops.bench.systems import SynapNode
from ops.bench.watchers import connect
from ops.client import Client

_WATCHERS = 200
_PAUSE_SECONDS = 0.02
_DEADLINE_SECONDS = 30.0
# What the slow one leaves unread in a second, in values of this size.
_UNREAD_BYTES = 8_000_000
_VALUE_BYTES = 64_000
_MARK = b'"value":"at '


def measure_beside_slow(node: SynapNode, seconds: int) -> list[tuple[str, str, str]]:
    """Measure how late many are told, without and with a slow one, beside the same writes."""
    address = node.url.removeprefix("http://")
    watchers = connect(address, ["prefix=timed:"] * _WATCHERS)
    try:
        alone = _p99_ms(node, watchers, seconds)
        (slow,) = connect(address, ["prefix="])
        with slow:
            beside = _p99_ms(node, watchers, seconds)
    finally:
        for each in watchers:
            each.close()
    label = f"p99 of {_WATCHERS} watchers, alone / beside one that reads nothing, ms"
    return [(label, f"{alone:.1f} / {beside:.1f}", "")]


def _p99_ms(node: SynapNode, watchers: list[socket.socket], seconds: int) -> float:
    """Return the delay from just before a write to its event, at all watchers."""
    delays: list[float] = []
    is_over = threading.Event()
    reader = threading.Thread(target=_read, args=(watchers, delays, is_over))
    filler = threading.Thread(target=_fill, args=(node, is_over))
    reader.start()
    filler.start()
    written = 0
    with Client(node.url) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            body = {"key": f"timed:{written}", "value": f"at {time.monotonic()} "}
            client.post("/kv/set", body)
            written += 1
            time.sleep(_PAUSE_SECONDS)
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while len(delays) < written * len(watchers) and time.monotonic() < deadline:
        time.sleep(0.01)
    is_over.set()
    reader.join()
    filler.join()
    if len(delays) != written * len(watchers):
        raise MeasurementFailed(f"{written * len(watchers) - len(delays)} events never came")
    return sorted(delays)[round(len(delays) * 0.99) - 1] * 1000


def _read(watchers: list[socket.socket], delays: list[float], is_over: threading.Event) -> None:
    with selectors.DefaultSelector() as selector:
        rests = dict.fromkeys(watchers, b"")
        for each in watchers:
            selector.register(each, selectors.EVENT_READ)
        while not is_over.is_set():
            for key, _ in selector.select(0.1):
                watcher: socket.socket = key.fileobj  # type: ignore[assignment]
                part = watcher.recv(65_536)
                now = time.monotonic()
                *lines, rests[watcher] = (rests[watcher] + part).split(b"\n")
                for line in lines:
                    if _MARK in line:
                        delays.append(now - float(line.split(_MARK, 1)[1].split(b" ", 1)[0]))


def _fill(node: SynapNode, is_over: threading.Event) -> None:
    with Client(node.url) as client:
        value = "x" * _VALUE_BYTES
        while not is_over.wait(_VALUE_BYTES / _UNREAD_BYTES):
            client.post("/kv/set", {"key": "unread", "value": value})
