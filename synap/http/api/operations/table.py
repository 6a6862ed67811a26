"""All operations: by the names of their commands, and those that have routes."""

from __future__ import annotations

from typing import Any

from synap.http.api.operations.deadlines import DEADLINES
from synap.http.api.operations.keyspace import KEYSPACE
from synap.http.api.operations.names import NAMES
from synap.http.api.operations.node import NODE
from synap.http.api.operations.operation import Operation
from synap.http.api.operations.transactions import TRANSACTIONS
from synap.http.api.operations.txn import TXN
from synap.http.api.operations.values import VALUES
from synap.http.api.operations.whole_keys import WHOLE_KEYS

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *WHOLE_KEYS, TXN, *VALUES, *DEADLINES, *KEYSPACE, *NAMES, *NODE, *TRANSACTIONS,
)  # fmt: skip

BY_NAME: dict[str, Operation[Any, Any]] = {
    name: operation for operation in OPERATIONS for name in operation.names
}


def by_path() -> dict[str, list[Operation[Any, Any]]]:
    """Return the operations that have routes, those of one path together."""
    found: dict[str, list[Operation[Any, Any]]] = {}
    for operation in OPERATIONS:
        if operation.route is not None:
            found.setdefault(operation.route.path, []).append(operation)
    return found


# Those whose resources are no operations.
_OTHER_WORDS = frozenset({"export", "import"})
KV_WORDS = _OTHER_WORDS | frozenset(
    path.split("/")[2] for path in by_path() if path.startswith("/kv/") and path[4] != "{"
)
"""The words that may follow /kv/ and have a meaning of their own there."""
