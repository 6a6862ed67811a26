"""Watchers of a node's change feed, in a process of their own, which take what comes.

    python -m ops.bench.watchers HOST:PORT COUNT

Prints a line when all follow, and the bytes that they were told when its input ends. It shares
the processors with the node, so it looks at none of them: clients do that on machines of their own.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading

from ops.bench.errors import MeasurementFailed

_REQUEST = "GET /watch?{query} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n"
_READ_BYTES = 256 * 1024
_TIMEOUT_SECONDS = 30.0
# So many connections are opened before the first of them is read from.
_AT_ONCE = 100


def connect(address: str, queries: list[str]) -> list[socket.socket]:
    """Return a connection for each query, on which the first event has come.

    Raises:
        MeasurementFailed: the node answers otherwise.
    """
    host, _, port = address.rpartition(":")
    opened: list[socket.socket] = []
    for start in range(0, len(queries), _AT_ONCE):
        some = []
        for query in queries[start : start + _AT_ONCE]:
            connection = socket.create_connection((host, int(port)), _TIMEOUT_SECONDS)
            connection.sendall(_REQUEST.format(query=query).encode())
            some.append(connection)
        for connection in some:
            begin = b""
            while b"progress" not in begin:
                part = connection.recv(_READ_BYTES)
                begin += part
                if not part or not begin.startswith(b"HTTP/1.1 200"):
                    raise MeasurementFailed(f"a watcher was answered {begin[:300]!r}")
        opened += some
    return opened


def main() -> None:
    """Follow all keys, as often as is asked for."""
    address, count = sys.argv[1], int(sys.argv[2])
    selector = selectors.DefaultSelector()
    for connection in connect(address, ["prefix="] * count):
        selector.register(connection, selectors.EVENT_READ)
    print("following", flush=True)
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    told, unused = 0, bytearray(_READ_BYTES)
    while not is_over.is_set():
        for key, _ in selector.select(0.1):
            # The kernel drops them, and copies nothing.
            told += key.fileobj.recv_into(  # type: ignore[union-attr]
                unused, _READ_BYTES, socket.MSG_TRUNC
            )
    print(told)


if __name__ == "__main__":
    main()
