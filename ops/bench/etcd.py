"""One etcd member, spoken to through its JSON gateway."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Self

from ops.bench.cpu import process_tree
from ops.bench.errors import MeasurementFailed
from ops.bench.programs import require_program
from ops.bench.systems import START_DEADLINE_SECONDS, Pair
from ops.client import Client
from ops.processes import ServerProcess, free_ports

# etcd takes up to 128 operations in a transaction.
_PAIRS_A_TRANSACTION = 100


class EtcdGateway:
    """A cluster of one etcd, which syncs its log before it answers a put; its only way.

    Args:
        folder: An empty place for its data.
    """

    name = "etcd"
    dialect = "etcd"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cleanup = ExitStack()
        self.url = ""

    def __enter__(self) -> Self:
        port, peer_port = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        command = [require_program("etcd"), f"--data-dir={self._folder / 'etcd'}"]
        command += [f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}"]
        peer = f"http://127.0.0.1:{peer_port}"
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster=default={peer}"]
        with ExitStack() as stack:
            self._server = stack.enter_context(ServerProcess(command, self._folder / "etcd.log"))
            self._server.wait_until(self._is_healthy, self.name, START_DEADLINE_SECONDS)
            self._client = stack.enter_context(Client(self.url))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def write(self, pairs: Iterable[Pair]) -> None:
        rest = iter(pairs)
        while batch := list(islice(rest, _PAIRS_A_TRANSACTION)):
            puts = [{"requestPut": {"key": _text(k), "value": _text(v)}} for k, v in batch]
            if not self._client.post("/v3/kv/txn", {"success": puts}).get("succeeded"):
                raise MeasurementFailed("etcd did not take the data to measure with")

    def read(self, key: str) -> Any:
        found = self._client.post("/v3/kv/range", {"key": _text(key)}).get("kvs")
        return base64.b64decode(found[0]["value"]).decode() if found else None

    def pids(self) -> list[int]:
        return process_tree(self._server.pid)

    def _is_healthy(self) -> bool:
        try:
            with Client(self.url, timeout_seconds=2) as client:
                return client.request("GET", "/health").body == b'{"health":"true"}'
        except OSError:
            return False


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
