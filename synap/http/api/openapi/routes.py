"""The table of the API's routes: every method of every path, and what is special to it.

What operations know of their own routes comes from them. `synap.http.api.openapi.document` makes
the description of it; a test holds it against the application's routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synap.http.api.endpoints import api_keys, commands, replication, slots, users
from synap.http.api.openapi.answer_schemas import NATURAL, POSITION, TEXT, Schema
from synap.http.api.openapi.route import (
    IF_MATCH,
    IF_NONE_MATCH,
    Parameter,
    Route,
    delete,
    get,
    post,
)
from synap.http.api.operations.deadlines import DEADLINES
from synap.http.api.operations.keyspace import KEYSPACE
from synap.http.api.operations.names import NAMES
from synap.http.api.operations.node import CLIENTS, CONFIG, INFO, SLOW_LOG, SLOW_LOG_RESET, STATS
from synap.http.api.operations.operation import Operation
from synap.http.api.operations.txn import TXN
from synap.http.api.operations.values import VALUES
from synap.http.api.operations.whole_keys import WHOLE_KEYS

_TTL = Parameter("ttl", NATURAL, "Seconds from now on that the key lives")
_LAG = (
    Parameter("max_lag_ms", NATURAL, "How old a replica's data may be"),
    Parameter("max_lag_entries", NATURAL, "How many entries a replica may lack"),
)
_RANGE = (
    Parameter("space", NATURAL, "Keys 0, accounts 1, requests 2; 0 by default"),
    Parameter("after", TEXT, "Only keys after this one, in URL-safe base64"),
    Parameter("until", TEXT, "Only keys up to this one, in URL-safe base64"),
    Parameter("limit", NATURAL, "Records at most, up to 10,000"),
)
_SLOT_REQUESTS = (
    Parameter("slot", NATURAL, "The slot, 0 to 1023", is_required=True),
    Parameter("after", TEXT, "Only those after this one, as `next` of the answer before has it"),
)
_NAMES: Schema = {"type": "array", "items": TEXT}
_WATCH = (
    Parameter("prefix", _NAMES, "Keys that begin with one of these; all keys where none is named"),
    Parameter("key", _NAMES, "These keys"),
    Parameter("pattern", _NAMES, "Keys that one of these globs fits"),
    Parameter("from", POSITION, "Go on after this position; else from now on"),
    Parameter("include", {"const": "initial"}, "All keys first, as they are now; for a stream"),
    Parameter("values", {"enum": ["inline", "none"]}, "Whether values are told; inline by default"),
    Parameter("min_replicas", NATURAL, "Tell what so many replicas hold"),
    Parameter("wait", NATURAL, "Seconds that a long poll waits, up to 300; 30 by default"),
    Parameter("limit", NATURAL, "Events of a long poll, up to 10,000; 500 by default"),
    Parameter("Last-Event-ID", POSITION, "As `from`; wins over it", place="header"),
)
_STRONG = Parameter(
    "X-Synap-Consistency", {"const": "strong"}, "Of its reads: see every write acknowledged before",
    place="header",
)  # fmt: skip
_VERBOSE = Parameter("verbose", TEXT, "Whether each check is named; with or without a value")


def _routes_of(*operations: Operation[Any, Any]) -> Iterator[Route]:
    return (operation.described() for operation in operations if operation.route is not None)


# Routes by theme, in the order in which they are shown.
ROUTES: dict[str, tuple[Route, ...]] = {
    "Keys": (*_routes_of(*WHOLE_KEYS, TXN, *VALUES, *DEADLINES, *KEYSPACE),),
    "Lines of keys": (
        get(
            "/kv/export", "Stream all keys that begin with a prefix, of one state", "Lines",
            parameters=(
                Parameter("prefix", TEXT, "What the keys begin with; all without it"),
                Parameter("slot", NATURAL, "Only keys of this slot, from 0 to 1023"),
            ),
            media_type="application/x-ndjson",
        ),
        Route(
            "POST", "/kv/import", "Write the keys of an export, or of a part of one", "Imported",
            "write", takes_bytes=True, statuses=(413, 422),
        ),
    ),
    "The change feed": (
        get(
            "/watch", "Follow the changes of keys", "Changes", parameters=_WATCH,
            statuses=(410, 421),
            other_forms=(("text/event-stream", "Events"), ("application/x-ndjson", "EventLines")),
        ),
    ),
    "Raw values": (
        get(
            "/raw/{key}", "Get a value's bytes", "Binary",
            parameters=(IF_MATCH, IF_NONE_MATCH), statuses=(304, 404), headers=("ETag",),
            media_type="application/octet-stream",
        ),
        Route(
            "PUT", "/raw/{key}", "Set a key to the body's bytes", "Version", "write",
            takes_bytes=True, parameters=(_TTL, IF_MATCH, IF_NONE_MATCH),
            statuses=(412, 413, 422), headers=("ETag",),
        ),
        delete(
            "/raw/{key}", "Delete a key on conditions", "Deleted",
            parameters=(IF_MATCH, IF_NONE_MATCH), statuses=(412,),
        ),
    ),
    "Names": (*_routes_of(*NAMES),),
    "Commands": (
        post(
            "/api/v1/command", "Carry out a command, or a batch of them, by name", "CommandAnswer",
            body=commands.CommandBody, parameters=(_STRONG,),
        ),
        get(
            "/idempotency/{key}", "See what is remembered of a request with Idempotency-Key",
            "Remembered", statuses=(404,),
        ),
    ),
    "Load balancers": (
        get("/", "Tell what this is, and where to look", "About", kind="public"),
        get("/health", "See whether the node can serve", "Health", kind="public"),
        get("/liveness", "See whether the node is alive", "Check", kind="public"),
        get(
            "/readiness", "See whether the node is fit for traffic", "Check", kind="public",
            parameters=(_VERBOSE,),
        ),
        get("/primary", "See whether the node takes writes", "Check", kind="public"),
        get(
            "/replica", "See whether the node is a replica near its master", "Check",
            kind="public", parameters=_LAG, statuses=(400,),
        ),
        get(
            "/read-only", "See whether the node's data is fresh enough for reads", "Check",
            kind="public", parameters=_LAG, statuses=(400,),
        ),
    ),
    "The node": (
        get("/health/replication", "See how replication stands", "Replication", kind="node"),
        get("/cluster", "List the members that the node knows", "Cluster", kind="node"),
        get("/cluster/slots", "List which cluster has which slots", "Slots", kind="node"),
        post(
            "/cluster/slots/step", "Take a step of a slot's move to another cluster", "SlotStep",
            body=slots.SlotStepBody,
        ),
        post(
            "/cluster/slots/clear", "Remove keys of a slot that is not here", "SlotCleared",
            body=slots.ClearSlotBody,
        ),
        get(
            "/cluster/slots/requests", "List what is remembered of a slot's requests",
            "SlotRequests", parameters=_SLOT_REQUESTS, statuses=(400,),
        ),
        post(
            "/cluster/slots/requests", "Remember requests of a slot that is coming",
            "SlotRequestsTaken", body=slots.BringRequestsBody,
        ),
        *_routes_of(STATS, INFO),
        get(
            "/metrics", "Give the metrics of the whole node", "Text", kind="node",
            media_type="text/plain",
        ),
        *_routes_of(SLOW_LOG, SLOW_LOG_RESET, CLIENTS, CONFIG),
        get("/digest", "Get the checksum of the whole store", "Digest"),
        get(
            "/digest/range", "Get a sum over a range of keys", "RangeDigest", kind="node",
            parameters=_RANGE, statuses=(400,),
        ),
    ),
    "Operation": (
        post(
            "/snapshot", "Take a snapshot", "Snapshot", kind="node", statuses=(500, 503, 507),
            headers=("X-Synap-Offset",),
        ),
        post(
            "/verify", "Look at every record of the store", "Verified", kind="node",
            statuses=(500, 503),
        ),
        get(
            "/backup", "Stream one consistent image of the store", "Binary", statuses=(507,),
            media_type="application/octet-stream", headers=("X-Synap-Checksum",),
        ),
        post(
            "/replication/promote", "Make the node a master", "RoleTaken", kind="node",
            body=replication.PromoteBody, is_body_optional=True, statuses=(409, 503),
        ),
        get(
            "/replication/history", "See the reigns of the node's log", "Reigns", kind="node",
            statuses=(503,),
        ),
        post(
            "/replication/seal", "Have the node promise an epoch to a candidate", "Sealed",
            kind="node", body=replication.SealBody, statuses=(409, 503),
        ),
        post(
            "/replication/follow", "Make the node a replica of another one", "RoleTaken",
            kind="node", body=replication.FollowBody, statuses=(409, 503),
        ),
        post(
            "/replication/pause", "Have writes wait for a switchover", "PauseState", kind="node",
            body=replication.PauseBody, is_body_optional=True, statuses=(409, 503),
        ),
        post(
            "/replication/resume", "End a pause", "PauseState", kind="node", statuses=(409, 503)
        ),
        post(
            "/replication/step-down", "End the reign of a paused master", "PauseState",
            kind="node", body=replication.StepDownBody, statuses=(409, 503),
        ),
        post(
            "/clock/confirm", "Have deadlines follow a jump of the machine's clock", "ClockJump",
            kind="node", statuses=(409, 503),
        ),
        post(
            "/replication/forget", "Forget a replica that is gone for good", "Forgotten",
            kind="node", body=replication.ForgetBody, statuses=(404, 409, 503),
        ),
        post(
            "/replication/accept", "Have a diverged replica take its master's data", "Acceptance",
            kind="node", statuses=(409, 503),
        ),
    ),
    "Accounts": (
        post(
            "/auth/login", "Check a name and a password", "LoggedIn", kind="read",
            body=users.LoginBody,
        ),
        get("/auth/me", "See whose the credentials are", "User", statuses=(404,)),
        get("/auth/users", "List the users", "Users"),
        post(
            "/auth/users", "Make a user", "Done", kind="account", body=users.UserBody,
            statuses=(409,),
        ),
        get("/auth/users/{name}", "See a user", "User", statuses=(404,)),
        delete(
            "/auth/users/{name}", "Remove a user and the user's keys", "Done", kind="account",
            statuses=(404, 409),
        ),
        post(
            "/auth/users/{name}/password", "Set a user's password", "Done",
            kind="account", body=users.NewPasswordBody, statuses=(404, 409),
        ),
        post(
            "/auth/users/{name}/enable", "Enable a user", "Done", kind="account",
            statuses=(404, 409),
        ),
        post(
            "/auth/users/{name}/disable", "Disable a user", "Done", kind="account",
            statuses=(404, 409),
        ),
        post(
            "/auth/users/{name}/roles", "Give a user a role", "Done",
            kind="account", body=users.RoleBody, statuses=(404, 409),
        ),
        delete(
            "/auth/users/{name}/roles/{role}", "Take a role from a user", "Done", kind="account",
            statuses=(404, 409),
        ),
        get("/auth/roles", "List the known roles", "Roles", kind="node"),
        get("/auth/keys", "List API keys", "Keys"),
        post(
            "/auth/keys", "Make an API key", "NewKey", kind="account", body=api_keys.KeyBody,
            statuses=(409,),
        ),
        delete(
            "/auth/keys/{id}", "Revoke an API key", "Done", kind="account", statuses=(404, 409)
        ),
    ),
    "The console": (
        get(
            "/console", "Get the console, a page", "Html", kind="public", media_type="text/html",
            parameters=(IF_NONE_MATCH,), statuses=(304,), headers=("ETag",),
        ),
        get(
            "/console/{file}", "Get a file of the console", "Html", kind="public",
            media_type="text/javascript", parameters=(IF_NONE_MATCH,), statuses=(304, 404),
            headers=("ETag",),
        ),
        get(
            "/console/settings.json", "Tell the console what to show", "ConsoleSettings",
            kind="public",
        ),
    ),
    "This description": (
        get("/openapi.json", "Get this description", "OpenApi", kind="node"),
        *(
            get(
                path, summary, "Html", kind="node", media_type=media_type,
                parameters=(IF_NONE_MATCH,), statuses=(304,), headers=("ETag",),
            )
            for path, summary, media_type in (
                ("/docs", "Get the page that shows it", "text/html"),
                ("/docs/page.js", "Get the page's script", "text/javascript"),
                ("/docs/page.css", "Get the page's style", "text/css"),
                ("/docs/swagger-ui.js", "Get what draws the page", "text/javascript"),
                ("/docs/swagger-ui.css", "Get its style", "text/css"),
            )
        ),
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
    ("SetBody", "if_version"): (
        "Only where this is the key's version, as its ETag has it in the quotes; the number 0 "
        "stands for an absent key"
    ),
    ("RangeBody", "offset"): "In bytes; a hole before it is filled with NUL",
    ("TtlBody", "ttl"): "Seconds from now on; 0 removes the key",
    ("DestinationBody", "replace"): "For `copy`: whether an existing destination is overwritten",
    ("PromoteBody", "force"): "Also where that loses something",
    ("PromoteBody", "epoch"): "What the node is sealed for; 0 for the next one",
    ("SealBody", "epoch"): "Number of the reign that is to begin",
    ("SealBody", "candidate"): "`server.node_id` of the node that begins it",
    ("FollowBody", "master_address"): "host:port of the master's PUB socket",
    ("FollowBody", "master_sync_address"): "host:port of its ROUTER socket; else the next port",
    ("FollowBody", "force"): "Also where that loses something",
    ("ForgetBody", "replica"): "Its `server.node_id`",
    ("TxnBody", "if"): "All must hold; with none, they do",
    ("TxnBody", "then"): "What is done where they hold, in order",
    ("TxnBody", "else"): "What is done where one does not",
    ("ConditionBody", "version"): "As the key's ETag has it in the quotes; 0 for an absent key",
    ("ConditionBody", "exists"): "Whether the key exists",
    ("ConditionBody", "value"): "Any JSON, compared as it would be stored",
    ("TxnSetBody", "ttl"): "Seconds from now on",
    ("PauseBody", "seconds"): "Above 0, at most 60",
    ("StepDownBody", "offset"): "Where the log must end",
    ("StepDownBody", "master_url"): "Where clients are sent from then on",
    ("KeyBody", "permissions"): "Within what its owner may; all of that where it is missing",
    ("KeyBody", "allowed_ips"): "Addresses and networks that it works from; everywhere without",
}  # fmt: skip
