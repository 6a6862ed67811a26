"""The form of each answer, as JSON Schema, for the API's description.

The bodies of requests are described by their structs (`synap.http.api.operations`), all but the
command endpoint's, whose fields depend on each other. The answers are made where their operations
are; a test holds real ones against these forms. What may grow with a release is open: only what
clients build on is required.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NATURAL: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
OBJECT: Schema = {"type": "object"}
BINARY: Schema = {"type": "string", "format": "binary"}
TRUE: Schema = {"const": True}
POSITION: Schema = {"type": "string", "pattern": "^(0|[1-9][0-9]*)-[0-9a-f]{8}$"}
ROLE: Schema = {"enum": ["standalone", "master", "replica"]}


def ref(name: str) -> Schema:
    """Return a reference to one of `SCHEMAS`, or to a request's body."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def made_of(**fields: Schema) -> Schema:
    """Return an object that always has these fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def with_optional(schema: Schema, **fields: Schema) -> Schema:
    """Return `schema` with fields that may be missing."""
    return {**schema, "properties": {**schema["properties"], **fields}}


_OR_TEXT = or_null(TEXT)
_OR_INTEGER = or_null(INTEGER)
# What is told of bytes where they are no text.
_TOLD = {
    "anyOf": [TEXT, made_of(value_base64=TEXT), {"type": "null"}],
    "description": "The stored text, or its bytes in base64 where it is none.",
}
_BYTES = list_of({"type": "integer", "minimum": 0, "maximum": 255})
# Of the change feed: which of the fields a change has, its operation says.
_CHANGE = with_optional(
    made_of(op={"enum": ["set", "del", "flush"]}),
    key=TEXT,
    value=TEXT,
    value_base64=TEXT,
    truncated=TRUE,
    version=POSITION,
    expires_at_ms=_OR_INTEGER,
    cause={"enum": ["client", "expired", "evicted", "renamed"]},
    prefix=TEXT,
)
_OPERATIONS = made_of(gets=NATURAL, sets=NATURAL, dels=NATURAL, hits=NATURAL, misses=NATURAL)
_KEY_STATS = made_of(
    total_keys=NATURAL, total_memory_bytes=NATURAL, operations=_OPERATIONS, hit_rate=NUMBER
)
_MEMBER = made_of(
    node_id=_OR_TEXT,
    url=_OR_TEXT,
    role=ROLE,
    state=TEXT,
    epoch=or_null(NATURAL),
    offset=or_null(NATURAL),
    lag_entries=or_null(NATURAL),
    lag_ms=or_null(NATURAL),
    contact_ms=or_null(NATURAL),
    open=or_null(BOOLEAN),
    read_only=_OR_TEXT,
    note=_OR_TEXT,
    hops=or_null(NATURAL),
    upstream=_OR_TEXT,
    version=_OR_TEXT,
    position=_OR_TEXT,
    snapshot_at_ms=_OR_INTEGER,
    lease_ms=or_null(NATURAL),
)
_REPLICATION = with_optional(
    made_of(
        role=ROLE, node_id=TEXT, url=TEXT, history=TEXT, epoch=INTEGER, read_only=_OR_TEXT,
        acknowledges_no_writes=_OR_TEXT,
    ),
    current_offset=NATURAL,
    replicas=list_of(ref("ReplicaFacts")),
    master_address=TEXT,
    hops=or_null(NATURAL),
    upstream_address=_OR_TEXT,
    path=list_of(TEXT),
    master_offset=NATURAL,
    local_offset=NATURAL,
    lag_entries=NATURAL,
    lag_ms=NATURAL,
    status={
        "enum": [
            "connecting", "catching_up", "syncing", "in_sync", "lagging", "disconnected",
            "diverged",
        ]
    },
    last_sync=_OR_INTEGER,
    note=_OR_TEXT,
)  # fmt: skip
_USER = made_of(username=TEXT, roles=list_of(TEXT), is_admin=BOOLEAN, enabled=BOOLEAN)
_ENVELOPE = made_of(
    success=BOOLEAN, request_id=_OR_TEXT, payload=ANYTHING, error=_OR_TEXT
)  # fmt: skip
_CHECK = with_optional(
    made_of(ok=BOOLEAN, role=ROLE, reasons=list_of(TEXT), read_only=_OR_TEXT),
    lag_ms=NATURAL,
    lag_entries=NATURAL,
    checks={"type": "object", "additionalProperties": TEXT},
)
_REQUEST_ID = {"type": ["string", "null"], "description": "Comes back in the answer."}
_COMMAND_FIELDS = {
    "command": {"type": "string", "description": "Such as `kv.get`."},
    "request_id": _REQUEST_ID,
    "payload": {"description": "The command's fields; none of them where it is missing."},
}

SCHEMAS: dict[str, Schema] = {
    "Error": made_of(
        error=TEXT,
        code={"type": "integer", "description": "The HTTP status."},
        reason={"type": "string", "description": "A word for programs."},
        retryable={
            "type": "boolean",
            "description": "Whether the same request may be sent again without harm.",
        },
    ),
    "Done": made_of(success=TRUE, message=TEXT),
    "Success": made_of(success=BOOLEAN),
    "Written": with_optional(
        made_of(success=TRUE, key=TEXT, written=BOOLEAN),
        old_value=_TOLD,
        version=POSITION,
        reason={"enum": ["key_exists", "key_absent", "version_differs"]},
    ),
    "AllWritten": with_optional(
        made_of(success=BOOLEAN, written=BOOLEAN), reason={"enum": ["key_exists"]}
    ),
    "Value": {
        "description": (
            "The stored text; with `type=bytes` the bytes as integers, with `type=base64` in "
            "base64, with `type=json` the JSON that the text is."
        ),
    },
    "Lines": {"type": "string", "description": "A JSON object on each line."},
    "Changes": made_of(
        events=list_of(
            made_of(position=POSITION, time_ms=NATURAL, changes=list_of(_CHANGE)),
        ),
        next=POSITION,
        more=BOOLEAN,
    ),
    "Events": {
        "type": "string",
        "description": (
            "Server-Sent Events: `change`, `progress`, `entry`, `synced`, `reset`, `close`; the "
            "position is the `id`, the other fields are the `data`."
        ),
    },
    "EventLines": {
        "type": "string",
        "description": (
            "A JSON object on each line that is not empty: `event` is `change`, `progress`, "
            "`entry`, `synced`, `reset` or `close`, beside it `position` and the other fields."
        ),
    },
    "Imported": made_of(success=TRUE, written=NATURAL),
    "Txn": made_of(succeeded=BOOLEAN, results=list_of(OBJECT)),
    "Deleted": made_of(deleted=BOOLEAN, key=TEXT),
    "DeletedCount": made_of(deleted=NATURAL),
    "Values": {
        **made_of(values=list_of(ANYTHING)),
        "description": (
            "Each the stored text, null where there is no such key, an object with `value_base64` "
            "where it is no text; with `type=json` the JSON that it is, with "
            "`type=base64` in base64."
        ),
    },
    "Number": with_optional(
        made_of(
            value={
                "type": ["integer", "string"],
                "pattern": "^-?[0-9]+$",
                "description": "A string from 2^53 on, where numbers of JavaScript are not exact.",
            }
        ),
        version=POSITION,
    ),
    "Float": with_optional(made_of(value=NUMBER), version=POSITION),
    "Length": with_optional(made_of(length=NATURAL), version=POSITION),
    "Text": TEXT,
    "OldValue": _TOLD,
    "Result": with_optional(made_of(result=BOOLEAN), version=POSITION),
    "Ttl": made_of(ttl=or_null(NATURAL)),
    "Page": with_optional(
        made_of(keys=list_of(TEXT), count=NATURAL, cursor=_OR_TEXT, has_more=BOOLEAN),
        folders=list_of(TEXT),
    ),
    "KeyStats": _KEY_STATS,
    "Version": made_of(success=TRUE, key=TEXT, version=POSITION),
    "Remembered": made_of(
        key=TEXT,
        position=POSITION,
        outcome={"enum": ["changed", "unchanged"]},
        expires_at_ms=NATURAL,
    ),
    "Kind": made_of(key=TEXT, type={"enum": ["string", "none"]}),
    "Existence": made_of(key=TEXT, exists=BOOLEAN),
    "Move": made_of(success=BOOLEAN, source=TEXT, destination=TEXT),
    "RandomKey": made_of(key=_OR_TEXT),
    "Usage": made_of(key=TEXT, bytes=NATURAL, human=TEXT),
    "OneCommand": {"type": "object", "properties": _COMMAND_FIELDS, "required": ["command"]},
    "CommandBody": {
        "anyOf": [
            ref("OneCommand"),
            {
                "type": "object",
                "properties": {
                    "type": {"const": "batch"},
                    "request_id": _REQUEST_ID,
                    "commands": {
                        "type": "array",
                        "items": ref("OneCommand"),
                        "maxItems": 1000,
                    },
                },
                "required": ["type", "commands"],
            },
        ]
    },
    "Envelope": _ENVELOPE,
    "CommandAnswer": {
        "anyOf": [
            ref("Envelope"),
            made_of(
                type={"const": "batch_response"},
                request_id=_OR_TEXT,
                results=list_of(ref("Envelope")),
            ),
        ]
    },
    "About": made_of(
        service={"const": "synap"},
        version=TEXT,
        about=TEXT,
        docs=TEXT,
        openapi=TEXT,
        health=TEXT,
        readiness=TEXT,
    ),
    "Health": with_optional(
        made_of(
            status={"enum": ["healthy", "unhealthy"]},
            service={"const": "synap"},
            version=TEXT,
            role=ROLE,
        ),
        reasons=list_of(TEXT),
        read_only=TEXT,
        acknowledges_no_writes=TEXT,
    ),
    "Check": _CHECK,
    "Replication": _REPLICATION,
    "Cluster": with_optional(
        made_of(node_id=TEXT, role=ROLE, members=list_of(_MEMBER), unknown=_OR_TEXT),
        failover=OBJECT,
    ),
    "Slots": made_of(
        cluster=TEXT,
        slots=list_of(made_of(cluster=TEXT, url=TEXT, count=NATURAL, slots=TEXT)),
        moved=list_of(
            made_of(
                slot=NATURAL,
                state={"enum": ["moving", "given", "coming", "taken"]},
                is_own=BOOLEAN,
                until_ms=or_null(NATURAL),
                cluster=TEXT,
                url=TEXT,
                freeze=or_null(POSITION),
                is_cleared=BOOLEAN,
            )
        ),
    ),
    "SlotStep": made_of(done=BOOLEAN, position=POSITION),
    "SlotCleared": made_of(removed=NATURAL, position=POSITION),
    "SlotRequests": made_of(
        records=list_of(made_of(key=TEXT, value=TEXT, expires_at_ms=NATURAL)),
        next=or_null(TEXT),
    ),
    "SlotRequestsTaken": made_of(remembered=NATURAL, position=POSITION),
    "Stats": made_of(
        server=OBJECT,
        memory=made_of(used_bytes=NATURAL, limit_bytes=NATURAL, policy=TEXT, evicted_total=NATURAL),
        kv=_KEY_STATS,
        persistence=OBJECT,
        replication=ref("Replication"),
    ),
    "Info": {
        "type": "object",
        "description": "Sections by their names.",
        "additionalProperties": OBJECT,
    },
    "SlowLog": made_of(
        entries=list_of(
            made_of(
                id=NATURAL,
                timestamp=NATURAL,
                duration_us=NATURAL,
                command=TEXT,
                args=list_of(TEXT),
                request_id=TEXT,
            )
        ),
        total=NATURAL,
    ),
    "Clients": made_of(
        clients=list_of(
            made_of(
                id=NATURAL,
                address=TEXT,
                worker=_OR_INTEGER,
                unread_bytes=NATURAL,
                unsent_bytes=NATURAL,
            )
        ),
        count=NATURAL,
    ),
    "Digest": made_of(
        offset=NATURAL, keys=NATURAL, digest={"type": "string", "pattern": "^[0-9a-f]{64}$"}
    ),
    "RangeDigest": made_of(
        offset=NATURAL, history=TEXT, records=NATURAL, sum=TEXT, last=TEXT, is_whole=BOOLEAN
    ),
    "Verified": made_of(
        success=BOOLEAN, records=NATURAL, bytes=NATURAL, damaged=NATURAL, differing=NATURAL
    ),
    "Snapshot": made_of(success=TRUE, message=TEXT, offset=NATURAL, file=TEXT),
    "RoleTaken": made_of(
        success=TRUE,
        role=ROLE,
        epoch=NATURAL,
        offset=NATURAL,
        changed=BOOLEAN,
        in_office=BOOLEAN,
        lost=list_of(TEXT),
    ),
    "Sealed": made_of(
        success=TRUE, epoch=NATURAL, rank={**list_of(NATURAL), "minItems": 3, "maxItems": 3}
    ),
    "PauseState": made_of(success=TRUE, offset=NATURAL, epoch=NATURAL, seconds=NUMBER),
    "ClockJump": made_of(success=TRUE, seconds=NUMBER),
    "Reigns": made_of(
        reigns=list_of(
            made_of(
                epoch=NATURAL,
                first_offset=NATURAL,
                entries=_OR_INTEGER,
                began_ms=_OR_INTEGER,
                cause=TEXT,
                history=TEXT,
            )
        )
    ),
    "Forgotten": made_of(success=TRUE, replica=TEXT),
    "Acceptance": made_of(success=TRUE, directory=TEXT),
    "User": with_optional(_USER, permissions=list_of(ref("Permission"))),
    "Users": made_of(success=TRUE, users=list_of(ref("User"))),
    "Roles": made_of(
        success=TRUE, roles=list_of(made_of(name=TEXT, permissions=list_of(ref("Permission"))))
    ),
    "LoggedIn": made_of(success=TRUE, user=ref("User"), message=TEXT),
    "NewKey": made_of(
        success=TRUE,
        key=made_of(id=TEXT, key=TEXT, name=TEXT, expires_at=_OR_INTEGER, created_at=INTEGER),
        message=TEXT,
    ),
    "Keys": made_of(
        success=TRUE,
        keys=list_of(
            made_of(
                id=TEXT,
                name=TEXT,
                username=TEXT,
                permissions=or_null(list_of(ref("Permission"))),
                allowed_ips=list_of(TEXT),
                created_at=INTEGER,
                expires_at=_OR_INTEGER,
            )
        ),
    ),
    "OpenApi": made_of(openapi=TEXT, info=OBJECT, paths=OBJECT, components=OBJECT),
    "Config": {
        "type": "object",
        "description": "Sections of docs/configuration.md by their names; secrets are masked.",
        "additionalProperties": ANYTHING,
    },
    "ConsoleSettings": made_of(login=BOOLEAN, write=BOOLEAN, certificate=BOOLEAN, version=TEXT),
    "Binary": BINARY,
    "Html": TEXT,
}
