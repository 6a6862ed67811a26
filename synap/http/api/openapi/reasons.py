"""Which reasons an operation's refusals can have, by their status.

What is not named here may come from every operation that has the status.
"""

from __future__ import annotations

import re

from synap.http.api.openapi.route import Route

# By what a reason comes from: method and path.
_COMMAND = "/api/v1/command$"
_OF: dict[str, str] = {
    "key_invalid": r"/(kv|key|raw|memory)/|" + _COMMAND,
    "invalid_value": r"/(incr|decr|incrbyfloat|setrange|txn)$|" + _COMMAND,
    "key_exists": r"/(renamenx|copy)$|" + _COMMAND,
    "cross_origin": r"^(?!GET)|/watch$",
    "command_disabled": _COMMAND,
    "unknown_command": _COMMAND,
    "key_not_found": r"{key}/(rename|renamenx|copy|getrange|ttl|usage)$|GET /(kv/get|raw)/",
    "not_found": r"/kv/{key}/",
    "account_not_found": r"/auth/",
    "account_conflict": r"/auth/",
    "replica_unknown": r"/replication/forget$",
    "replica_heard": r"/replication/forget$",
    "request_unknown": r"/idempotency/",
    "force_wanted": r"/replication/(promote|follow)$",
    "role_error": r"/(replication|clock)/",
    "agent_runs": r"/replication/",
    "seal_refused": r"/replication/(seal|promote)$",
    "not_paused": r"/replication/step-down$",
    "nothing_to_accept": r"/replication/accept$",
    "transaction_lost": _COMMAND,
    "compacted": r"/watch$",
    "diverged": r"/watch$",
    "feed_reset": r"/watch$",
    "value_too_large": r"(PUT|POST) /(kv|raw|key|api)/",
    "answer_too_large": r"/(mget|txn|command)$",
    "too_many_logins": r".",
    "exports_running": r"/kv/export$",
    "export_too_long": r"/kv/export$|/watch$",
    "backup_running": r"/backup$",
    "snapshot_failed": r"/snapshot$",
}
# Of who would change something.
_OF_WRITES = frozenset(
    {
        "writer_unavailable", "outcome_unknown", "writes_paused", "data_dir_lost", "no_lease",
        "recovering", "stale_epoch", "disk_full", "memory_limit",
    }
)  # fmt: skip
# By a header that the operation knows.
_OF_CONDITION = {
    "precondition_failed": "If-Match",
    "position_lost": "X-Synap-Min-Position",
    "not_caught_up": "X-Synap-Min-Position",
    "not_held": "X-Synap-Min-Replicas",
    "quorum_timeout": "X-Synap-Min-Replicas",
    "idempotency_key_reused": "Idempotency-Key",
    "idempotency_full": "Idempotency-Key",
}


def reasons_of(route: Route, possible: set[str]) -> set[str]:
    """Return which of the reasons of a status one operation can have.

    Args:
        route: The operation's.
        possible: All that the status has anywhere.
    """
    label = f"{route.method} {route.path}"
    found = set()
    for reason in possible:
        pattern, condition = _OF.get(reason), _OF_CONDITION.get(reason)
        if reason in _OF_WRITES and route.kind in ("read", "public") and route.path != "/backup":
            continue
        is_possible = (pattern is None or re.search(pattern, label) is not None) and (
            condition is None or condition in route.conditions
        )
        if is_possible:
            found.add(reason)
    return found or possible
