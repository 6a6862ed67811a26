"""What a limited caller's walks look at, in a store with keys that they may not read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest

from synap.auth.permissions import Caller, Permission
from synap.config.keys import Config
from synap.ipc.writer_client import WriterClient
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from tests.integration.http_support import (
    DEADLINE_SECONDS,
    make_config,
    make_generation,
    open_board,
    replica_view,
)

pytestmark = pytest.mark.anyio

OWN = [f"own:{number}" for number in range(5)]
HIDDEN = [f"{name}{number}" for name in ("a", "own", "own;", "z") for number in range(100)]


class Watched(Caller):
    """A caller who counts the keys that are looked at for them."""

    looked = 0

    def may_read(self, key: bytes) -> bool:
        self.looked += 1
        return super().may_read(key)


@pytest.fixture
def config(tmp_path: Path, run_dir: Path) -> Config:
    return make_config(tmp_path)


@pytest.mark.parametrize(
    ("permissions", "prefix"),
    [([], b""), ([Permission("kv:*", "write")], b""), ([Permission("kv:own:*", "read")], b"a")],
)
async def test_scan_of_who_may_see_nothing_there_takes_no_reading_thread(
    config: Config, permissions: list[Permission], prefix: bytes
) -> None:
    node = LocalNode(config)
    node.start()
    caller = Caller("ann", permissions)
    gate = Event()
    generation = make_generation(config, 1, **dict.fromkeys(HIDDEN, "v"))
    try:
        with open_board(config) as board:
            board.publish(replica_view(generation=generation))
            api = NodeApi(node, WriterClient(node.paths.writer_socket, 1.0))
            busy = [
                asyncio.create_task(node.read_in_thread(lambda _: gate.wait(DEADLINE_SECONDS)))
                for _ in range(64)
            ]
            await asyncio.sleep(0)
            async with asyncio.timeout(DEADLINE_SECONDS / 2):
                page = await api.scan(caller, prefix=prefix, pattern=None, cursor=None, limit=9)
            assert (page.keys, page.cursor, page.end.offset) == ([], None, 1)
            gate.set()
            assert all(await asyncio.gather(*busy))
    finally:
        gate.set()
        node.close()


@pytest.mark.parametrize("keys", [OWN, OWN + HIDDEN])
async def test_walks_of_a_limited_caller_look_at_no_key_of_others(
    config: Config, keys: list[str]
) -> None:
    node = LocalNode(config)
    node.start()
    caller = Watched("ann", [Permission("kv:own:*", "read")])
    generation = make_generation(config, 1, **dict.fromkeys(keys, "v"))
    try:
        with open_board(config) as board:
            board.publish(replica_view(generation=generation))
            api = NodeApi(node, WriterClient(node.paths.writer_socket, 1.0))
            page = await api.scan(caller, prefix=b"", pattern=None, cursor=None, limit=100)
            assert (page.keys, page.cursor, caller.looked) == (OWN, None, 5)
            assert (await api.list_keys(caller, b"*")).keys == OWN
            key, _ = await api.random_key(caller)
            assert key in OWN
            assert caller.looked == 11
            level = await api.scan(
                caller, prefix=b"", pattern=None, cursor=None, limit=100, delimiter=b":"
            )
            assert (level.keys, level.folders) == ([], ["own:"])
            assert caller.looked == 12
    finally:
        node.close()
