"""Transactions: commands that a client queues, and keys that it watches. They have no routes."""

from __future__ import annotations

import msgspec

from synap.commands.transactions import Discard, Exec, Executed, Multi, Unwatch, Watch
from synap.http.api.operations.operation import ClientId, Transact
from synap.http.api.operations.whole_keys import KeysBody

_ABORTED = {"aborted": True, "message": "Transaction aborted: watched keys changed"}


class ClientBody(msgspec.Struct, gc=False):
    """Whose transaction it is. Clients that give themselves no id share the empty one."""

    client_id: ClientId = ""


class WatchBody(KeysBody, gc=False, kw_only=True):
    """`watch`."""

    client_id: ClientId = ""


def _executed(key: bytes, body: ClientBody, executed: Executed) -> object:
    if executed.results is None:
        return _ABORTED
    results = [{word: bool(n) if word == "ok" else n} for word, n in executed.results]
    return {"success": True, "results": results}


TRANSACTIONS = (
    Transact(
        "transaction.multi",
        ClientBody,
        lambda body: Multi(body.client_id),
        lambda key, body, result: {"success": True, "message": "Transaction started"},
    ),
    Transact("transaction.exec", ClientBody, lambda body: Exec(body.client_id), _executed),
    Transact(
        "transaction.discard",
        ClientBody,
        lambda body: Discard(body.client_id),
        lambda key, body, result: {"success": True, "message": "Transaction discarded"},
    ),
    Transact(
        "transaction.watch",
        WatchBody,
        lambda body: Watch(body.client_id, body.encoded()),
        lambda key, body, result: {"success": True, "message": "Keys watched"},
    ),
    Transact(
        "transaction.unwatch",
        ClientBody,
        lambda body: Unwatch(body.client_id),
        lambda key, body, result: {"success": True, "message": "Keys unwatched"},
    ),
)
