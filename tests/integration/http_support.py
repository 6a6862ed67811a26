"""What the HTTP tests share: a client, and the application alone on a board that the test writes.

Most tests ask a whole node (`tests.support.Node`). Those about states that a healthy node is in for
a moment at most run the application without an owner of the log, in a thread of their own process.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import uvloop

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.http.api.app import create_app
from synap.http.api.request import App
from synap.http.server.lifespan import Lifespan
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from synap.node.identity import NodeIdentity, write_identity
from synap.node.paths import NodePaths
from synap.position import NO_HISTORY, Position, Reign
from synap.shared.board import Board, BoardView
from synap.store import Applied, Store
from tests.support import HOST, Answer, eventually

DEADLINE_SECONDS = 20.0
_MAP_BYTES = 64 * 1024 * 1024


class Client:
    """Asks the HTTP server on `port`; each request has a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request as it stands; the path is escaped already."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            received = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, received, answer.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: object) -> Answer:
        """Post JSON; bytes are taken for JSON as they stand."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, content, {"Content-Type": "application/json"})

    def put(self, key: str, value: object, **more: object) -> int:
        """Set a key, insist that it worked, and return the offset."""
        answer = self.post("/kv/set", {"key": key, "value": value, **more})
        assert answer.status == 200, answer.body
        return offset_of(answer)

    def read(self, key: str) -> Any:
        """Return a key's value; None where it is missing."""
        answer = self.get(f"/kv/get/{quote(key, safe='')}")
        return None if answer.status == 404 else answer.json()


def offset_of(answer: Answer) -> int:
    """Return the offset that an answer names."""
    return int(answer.headers["x-synap-offset"])


def position_of(answer: Answer) -> str:
    """Return the position that an answer names, after a look that its offset is the same."""
    position = answer.headers["x-synap-position"]
    assert position.split("-")[0] == answer.headers["x-synap-offset"]
    return position


def other(position: str) -> str:
    """Return the same offset in a reign that there never was, or another tag for a tag."""
    return position[:-1] + ("0" if position[-1] != "0" else "1")


def error_of(answer: Answer) -> tuple[int, str, bool]:
    """Return status, reason and retryable of an error, having checked its form."""
    body = answer.json()
    assert body["code"] == answer.status
    assert answer.headers["content-type"] == "application/json"
    assert body["error"]
    return answer.status, body["reason"], body["retryable"]


def make_config(folder: Path, **settings: object) -> Config:
    """Return a configuration with its data in `folder`; `server__port=1` sets `server.port`."""
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return load_config(None, {"data_dir": str(folder / "data"), **dotted}, environ={})


@contextmanager
def serving(config: Config, prepare: Callable[[App], object] = id) -> Iterator[Client]:
    """Serve the application alone, as the worker does.

    Args:
        prepare: Called with the application before it starts.
    """
    serving = _Serving(config, socket.create_server((HOST, 0)), prepare)
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        eventually(lambda: serving.stop or not thread.is_alive(), DEADLINE_SECONDS)
        assert serving.stop, "the application did not start"
        yield Client(serving.listener.getsockname()[1])
    finally:
        if serving.stop:
            serving.stop()
        thread.join(DEADLINE_SECONDS)
        serving.listener.close()


class _Serving:
    """The application on a loop of its own; `stop` is there once it serves."""

    def __init__(
        self, config: Config, listener: socket.socket, prepare: Callable[[App], object]
    ) -> None:
        self.listener = listener
        self._prepare = prepare
        self.stop: Callable[[], object] | None = None
        self._config = config

    def run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        app = create_app(self._config)
        self._prepare(app)
        loop, should_stop = asyncio.get_running_loop(), asyncio.Event()
        lifespan = Lifespan(app, is_required=True)
        await lifespan.startup()
        server = HttpServer(app, HttpLimits.of(self._config), state=lifespan.state)
        await server.listen(self.listener)
        self.stop = lambda: loop.call_soon_threadsafe(should_stop.set)
        await should_stop.wait()
        server.close()
        await lifespan.shutdown()


@contextmanager
def open_board(config: Config) -> Iterator[Board]:
    """Open the node's board, to write on it as an owner would."""
    paths = NodePaths.of(config)
    paths.create()
    board = Board(paths.board_file)
    board.publish(BoardView())
    try:
        yield board
    finally:
        board.close()


def replica_view(**facts: object) -> BoardView:
    """Return what a replica shows that has all that its master has."""
    now_ns = time.monotonic_ns()
    view = BoardView(
        role="replica",
        status="in_sync",
        generation=1,
        last_contact_ns=now_ns,
        fresh_ns=now_ns,
        heartbeat_ns=60_000_000_000,
        tick_ns=now_ns,
        master_url="http://master.example:15500",
        first_sync_done=True,
    )
    return msgspec.structs.replace(view, **facts)


def make_lineage(config: Config, *reigns: Reign) -> None:
    """Write the lineage of a replica, as the owner of its log does."""
    paths = NodePaths.of(config)
    paths.create()
    write_identity(paths.node_file, NodeIdentity("f" * 16, "replica", reigns))


def make_generation(config: Config, offset: int, history: bytes = NO_HISTORY, **values: str) -> int:
    """Make a generation of the live store that holds `values`; return its number."""
    store = Store.create(NodePaths.of(config).store_dir, _MAP_BYTES)
    transaction = store.begin()
    for key, value in values.items():
        transaction.put(key.encode(), value.encode(), 0)
    transaction.set_applied(Applied(Position(1, offset, 0), 1, 0, 0, history))
    transaction.commit()
    generation = store.generation
    store.close(clean=True)
    return generation
