"""The table of the API's operations: every method of every path, and what is special to it.

`synap.http.api.openapi.document` makes the description of it; a test holds it against the
application's routes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from synap.http.api import bodies
from synap.http.api.endpoints import api_keys, commands, replication, users
from synap.http.api.openapi.answer_schemas import INTEGER, NATURAL, TEXT, Schema
from synap.service.node_facts import SECTIONS

# What an operation does decides on the headers that it knows and on the answers that it shares
# with its like. `read` and `write` are about keys and accounts, `node` about the node, `public` is
# for load balancers.
Kind = Literal["read", "write", "node", "public"]


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query, or a header where `place` says so."""

    name: str
    schema: Schema
    description: str
    is_required: bool = False
    place: Literal["query", "header"] = "query"


class Operation(msgspec.Struct, frozen=True):
    """One method of one path.

    Attributes:
        method: In capitals. HEAD is left out: it works wherever GET does.
        path: Its fields in braces.
        summary: A sentence without its full stop.
        answer: Name of the form of the answer with 200, in `synap.http.api.openapi.answer_schemas`.
        kind: See there.
        body: The struct that the request's body is decoded into.
        is_body_optional: Whether there may be none.
        takes_bytes: Whether the body is bytes, and not JSON.
        parameters: Of the query and the headers; those that its kind shares are left out.
        statuses: Of answers, beside 200 and those that its kind shares.
        media_type: Of the answer with 200.
        headers: Of the answer with 200, beside those that its kind shares.
    """

    method: str
    path: str
    summary: str
    answer: str
    kind: Kind = "read"
    body: type[msgspec.Struct] | None = None
    is_body_optional: bool = False
    takes_bytes: bool = False
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = ()
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()


def _get(path: str, summary: str, answer: str, **more: Any) -> Operation:
    return Operation("GET", path, summary, answer, **more)


def _post(path: str, summary: str, answer: str, **more: Any) -> Operation:
    return Operation("POST", path, summary, answer, **{"kind": "write", **more})


def _delete(path: str, summary: str, answer: str, **more: Any) -> Operation:
    return Operation("DELETE", path, summary, answer, **{"kind": "write", **more})


_SHAPE = Parameter(
    "type", {"enum": ["string", "bytes"], "default": "string"}, "How the value is shown"
)
_IF_NONE_MATCH = Parameter(
    "If-None-Match", TEXT, "Only where the key has none of these versions", place="header"
)
_IF_MATCH = Parameter("If-Match", TEXT, "Only where the key has such a version", place="header")
_TTL = Parameter("ttl", NATURAL, "Seconds from now on that the key lives")
_LAG = (
    Parameter("max_lag_ms", NATURAL, "How old a replica's data may be"),
    Parameter("max_lag_entries", NATURAL, "How many entries a replica may lack"),
)
_SCAN = (
    Parameter("prefix", TEXT, "What the keys begin with"),
    Parameter("pattern", TEXT, "Glob: `* ? [a-z] [^a] \\`"),
    Parameter("cursor", TEXT, "From the page before"),
    Parameter("limit", {"type": "integer", "minimum": 1, "default": 100}, "Most keys in the page"),
)
_RANGE = (
    Parameter("start", INTEGER, "First byte; below 0 from the end", is_required=True),
    Parameter("end", INTEGER, "Last byte, inclusive; below 0 from the end", is_required=True),
)
_COUNT = Parameter("count", {"type": "integer", "default": 128}, "Most entries; below 0 for all")
_SECTION = Parameter("section", {"enum": [*SECTIONS]}, "This section alone")
_VERBOSE = Parameter("verbose", TEXT, "Whether each check is named; with or without a value")

# Operations by theme, in the order in which they are shown.
OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "Keys": (
        _post("/kv/set", "Set a key", "Written", body=bodies.SetBody),
        _get(
            "/kv/get/{key}", "Get a key's value", "Value",
            parameters=(_SHAPE, _IF_NONE_MATCH), statuses=(304, 404), headers=("ETag",),
        ),
        _delete("/kv/del/{key}", "Delete a key", "Deleted"),
        _post("/kv/mset", "Set several keys at once", "Success", body=bodies.PairsBody),
        _post(
            "/kv/msetnx", "Set several keys where none of them exists", "Success",
            body=bodies.PairsBody,
        ),
        _post("/kv/mget", "Get several values", "Values", kind="read", body=bodies.KeysBody),
        _post("/kv/mdel", "Delete several keys", "DeletedCount", body=bodies.KeysBody),
        _post("/kv/incr", "Add to an integer", "Number", body=bodies.AmountBody),
        _post("/kv/decr", "Subtract from an integer", "Number", body=bodies.AmountBody),
        _post("/kv/{key}/append", "Append to a value", "Length", body=bodies.ValueBody),
        _get(
            "/kv/{key}/getrange", "Get a part of a value", "Text",
            parameters=_RANGE, statuses=(404,),
        ),
        _post("/kv/{key}/setrange", "Overwrite a part of a value", "Length", body=bodies.RangeBody),
        _get("/kv/{key}/strlen", "Get a value's length in bytes", "Length"),
        _post(
            "/kv/{key}/getset", "Set a key and get its old value", "TextOrNull",
            body=bodies.ValueBody,
        ),
        _post("/kv/{key}/expire", "Give a key a deadline", "Result", body=bodies.TtlBody),
        _post("/kv/{key}/persist", "Take a key's deadline away", "Result"),
        _get("/kv/{key}/ttl", "Get the seconds that a key has left", "Ttl", statuses=(404,)),
        _get("/kv/scan", "List keys, page by page", "Page", parameters=_SCAN),
        _get("/kv/stats", "Count keys, bytes and operations", "KeyStats"),
    ),
    "Raw values": (
        _get(
            "/raw/{key}", "Get a value's bytes", "Binary",
            parameters=(_IF_NONE_MATCH,), statuses=(304, 404), headers=("ETag",),
            media_type="application/octet-stream",
        ),
        Operation(
            "PUT", "/raw/{key}", "Set a key to the body's bytes", "Version", "write",
            takes_bytes=True, parameters=(_TTL, _IF_MATCH, _IF_NONE_MATCH),
            statuses=(412, 413, 422), headers=("ETag",),
        ),
        _delete(
            "/raw/{key}", "Delete a key on conditions", "Deleted",
            parameters=(_IF_MATCH, _IF_NONE_MATCH), statuses=(412,),
        ),
    ),
    "Names": (
        _get("/key/{key}/type", "Get the kind of a key's value", "Kind"),
        _get("/key/{key}/exists", "See whether a key exists", "Existence"),
        _post(
            "/key/{key}/rename", "Rename a key", "Move",
            body=bodies.DestinationBody, statuses=(404,),
        ),
        _post(
            "/key/{key}/renamenx", "Rename a key where the new name is free", "Move",
            body=bodies.DestinationBody, statuses=(404,),
        ),
        _post(
            "/key/{key}/copy", "Copy a key", "Move", body=bodies.DestinationBody, statuses=(404,)
        ),
        _get("/key/randomkey", "Get some key", "RandomKey"),
        _get("/memory/{key}/usage", "See what a key takes up", "Usage", statuses=(404,)),
    ),
    "Commands": (
        _post(
            "/api/v1/command", "Carry out a command, or a batch of them, by name", "CommandAnswer",
            body=commands.CommandBody,
        ),
    ),
    "Load balancers": (
        _get("/health", "See whether the node can serve", "Health", kind="public"),
        _get("/liveness", "See whether the node is alive", "Check", kind="public"),
        _get(
            "/readiness", "See whether the node is fit for traffic", "Check", kind="public",
            parameters=(_VERBOSE,),
        ),
        _get("/primary", "See whether the node takes writes", "Check", kind="public"),
        _get(
            "/replica", "See whether the node is a replica near its master", "Check",
            kind="public", parameters=_LAG, statuses=(400,),
        ),
        _get(
            "/read-only", "See whether the node's data is fresh enough for reads", "Check",
            kind="public", parameters=_LAG, statuses=(400,),
        ),
    ),
    "The node": (
        _get("/health/replication", "See how replication stands", "Replication", kind="node"),
        _get("/stats", "Tell what the node holds and does", "Stats"),
        _get(
            "/info", "Tell the same by the names that Redis has", "Info", parameters=(_SECTION,)
        ),
        _get(
            "/metrics", "Give the metrics of the whole node", "Text", kind="node",
            media_type="text/plain",
        ),
        _get(
            "/slowlog", "List the slowest requests", "SlowLog", kind="node",
            parameters=(_COUNT,), statuses=(400,),
        ),
        _delete("/slowlog", "Empty the slow log", "Success", kind="node"),
        _get("/clients", "List the connections", "Clients", kind="node"),
        _get("/digest", "Get the checksum of the whole store", "Digest"),
    ),
    "Operation": (
        _post(
            "/snapshot", "Take a snapshot", "Snapshot", kind="node", statuses=(500, 503, 507),
            headers=("X-Synap-Offset",),
        ),
        _get(
            "/backup", "Stream one consistent image of the store", "Binary", statuses=(507,),
            media_type="application/octet-stream", headers=("X-Synap-Checksum",),
        ),
        _post(
            "/replication/promote", "Make the node a master", "RoleTaken", kind="node",
            body=replication.PromoteBody, is_body_optional=True, statuses=(409, 503),
        ),
        _post(
            "/replication/follow", "Make the node a replica of another one", "RoleTaken",
            kind="node", body=replication.FollowBody, statuses=(409, 503),
        ),
        _post(
            "/replication/pause", "Have writes wait for a switchover", "PauseState", kind="node",
            body=replication.PauseBody, is_body_optional=True, statuses=(409, 503),
        ),
        _post(
            "/replication/resume", "End a pause", "PauseState", kind="node", statuses=(409, 503)
        ),
        _post(
            "/replication/step-down", "End the reign of a paused master", "PauseState",
            kind="node", body=replication.StepDownBody, statuses=(409, 503),
        ),
        _post(
            "/replication/accept", "Have a diverged replica take its master's data", "Acceptance",
            kind="node", statuses=(409, 503),
        ),
    ),
    "Accounts": (
        _post(
            "/auth/login", "Check a name and a password", "LoggedIn", kind="read",
            body=users.LoginBody,
        ),
        _get("/auth/me", "See whose the credentials are", "User", statuses=(404,)),
        _get("/auth/users", "List the users", "Users"),
        _post("/auth/users", "Make a user", "Done", body=users.UserBody, statuses=(409,)),
        _get("/auth/users/{name}", "See a user", "User", statuses=(404,)),
        _delete("/auth/users/{name}", "Remove a user and his keys", "Done", statuses=(404, 409)),
        _post(
            "/auth/users/{name}/password", "Set a user's password", "Done",
            body=users.NewPasswordBody, statuses=(404, 409),
        ),
        _post("/auth/users/{name}/enable", "Enable a user", "Done", statuses=(404, 409)),
        _post("/auth/users/{name}/disable", "Disable a user", "Done", statuses=(404, 409)),
        _post(
            "/auth/users/{name}/roles", "Give a user a role", "Done",
            body=users.RoleBody, statuses=(404, 409),
        ),
        _delete(
            "/auth/users/{name}/roles/{role}", "Take a role from a user", "Done",
            statuses=(404, 409),
        ),
        _get("/auth/roles", "List the known roles", "Roles", kind="node"),
        _get("/auth/keys", "List API keys", "Keys"),
        _post("/auth/keys", "Make an API key", "NewKey", body=api_keys.KeyBody, statuses=(409,)),
        _delete("/auth/keys/{id}", "Revoke an API key", "Done", statuses=(404, 409)),
    ),
    "This description": (
        _get("/openapi.json", "Get this description", "OpenApi", kind="node"),
        _get("/docs", "Get the page that shows it", "Html", kind="node", media_type="text/html"),
        _get(
            "/docs/page.js", "Get the page's script", "Html", kind="node",
            media_type="text/javascript",
        ),
        _get("/docs/page.css", "Get the page's style", "Html", kind="node", media_type="text/css"),
    ),
}  # fmt: skip

# What the fields of the bodies mean, where their names leave a question.
FIELDS: dict[tuple[str, str], str] = {
    ("SetBody", "value"): "Any JSON; a string is stored as its bytes, all else as its text",
    ("SetBody", "ttl"): "Seconds from now on; 0 writes a key that is gone",
    ("SetBody", "expiry"): "A deadline; wins over `ttl`",
    ("SetBody", "nx"): "Only where the key is absent",
    ("SetBody", "xx"): "Only where the key exists; excludes `nx`",
    ("SetBody", "keepttl"): "Keep the deadline that the key has",
    ("SetBody", "get"): "Answer with the old value as `old_value`",
    ("SetBody", "if_version"): "Only where this is the key's version; 0 stands for an absent key",
    ("RangeBody", "offset"): "In bytes; a hole before it is filled with NUL",
    ("TtlBody", "ttl"): "Seconds from now on; 0 removes the key",
    ("DestinationBody", "replace"): "For `copy`: whether an existing destination is overwritten",
    ("PromoteBody", "force"): "Also where that loses something",
    ("FollowBody", "master_address"): "host:port of the master's PUB socket",
    ("FollowBody", "master_sync_address"): "host:port of its ROUTER socket; else the next port",
    ("FollowBody", "force"): "Also where that loses something",
    ("PauseBody", "seconds"): "Above 0, at most 60",
    ("StepDownBody", "offset"): "Where the log must end",
    ("StepDownBody", "master_url"): "Where clients are sent from then on",
    ("KeyBody", "permissions"): "Within what its owner may; all of that where it is missing",
    ("KeyBody", "allowed_ips"): "Addresses and networks that it works from; everywhere without",
}  # fmt: skip
