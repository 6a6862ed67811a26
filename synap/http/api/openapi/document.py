"""`/openapi.json`: the API as it describes itself, in OpenAPI 3.1.

Put together from `synap.http.api.openapi.routes`, `synap.http.api.openapi.answer_schemas`, the
structs of the bodies and the tree of errors, when it is asked for first.

Source: the OpenAPI Specification 3.1.1, https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
import orjson
from falcon.asgi import Response

from synap import __version__
from synap.auth.permissions import Permission
from synap.errors import ReadRefused, SnapshotError, SynapError, WriteRefused
from synap.http.api.errors import HTTP_REASONS, STATUS
from synap.http.api.openapi.answer_schemas import (
    INTEGER,
    NATURAL,
    POSITION,
    SCHEMAS,
    TEXT,
    Schema,
    ref,
)
from synap.http.api.openapi.examples import Example, example_of
from synap.http.api.openapi.reasons import reasons_of
from synap.http.api.openapi.route import CONDITIONS, Kind, Route
from synap.http.api.openapi.routes import FIELDS, ROUTES
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.http.server.framing import OVERLOADED
from synap.request_errors import AccessRefused
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.shared.board import ReplicaFacts

_JSON = "application/json"
_ABOUT = """\
A replicated key-value store. Writes go to the master, reads to any node.

HEAD works wherever GET does. Another method of a known path is 405 `method_not_allowed`, an unknown
path 404 `not_found`. A request that can't be read as HTTP, or comes too slowly, is answered with
400, 408 `request_timeout`, 413 `payload_too_large`, 414 `uri_too_long`, 417 `expectation_failed`,
431 `headers_too_large` or 503 `overloaded`, and the connection is closed. 500 `internal_error` is a
fault of the node. A parameter of the query that an operation does not have is 400
`unknown_parameter`, a field of a body 422 `unknown_field`, a condition in a header that does not
count there 400 `condition_unsupported`; the payloads of commands may have more fields."""

_GUARDED = (401, 403, 429)
_STATUSES: dict[Kind, tuple[int, ...]] = {
    "read": (400, *_GUARDED, 412, 503),
    "write": (400, *_GUARDED, 412, 421, 503, 507),
    "account": (400, *_GUARDED, 412, 421, 503, 507),
    "node": (400, *_GUARDED),
    "public": (400,),
}
_WITH_JSON_BODY = (400, 413, 415, 422)
# To a body where none means anything.
_WITHOUT_BODY = (413, 422)
_ANSWER_HEADERS: dict[Kind, tuple[str, ...]] = {
    "read": ("X-Synap-Offset", "X-Synap-Position", "X-Synap-Lag-Ms", "X-Request-Id"),
    "write": ("X-Synap-Offset", "X-Synap-Position", "Idempotent-Replayed", "X-Request-Id"),
    "account": ("X-Synap-Offset", "X-Synap-Position", "X-Request-Id"),
    "node": ("X-Request-Id",),
    "public": ("X-Request-Id",),
}
_PARAMETERS: dict[str, tuple[Schema, str]] = {
    "X-Synap-Min-Position": (
        POSITION,
        "Wait until the node has applied what was written there, else 503 `not_caught_up`; 412 "
        "`position_lost` where that is no part of its log",
    ),
    "X-Synap-Min-Offset": (
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
        "Wait until the node has applied this offset, whoever wrote it, else 503 `not_caught_up`",
    ),
    "X-Synap-Min-Replicas": (
        {"type": "integer", "minimum": 0, "maximum": 256},
        "Answer when so many replicas hold the write, else 503 `quorum_timeout`",
    ),
    "X-Synap-Consistency": (
        {"const": "strong"},
        "See every write that was acknowledged before, whoever took it: at a master with a lease; "
        "421 at a replica, 400 without an engine of elections, 503 `no_lease` where another node "
        "may be the master by now",
    ),
    "Idempotency-Key": (
        {"type": "string", "pattern": "^[!-~]{1,128}$"},
        "What the client calls the request, which takes effect once, however often it is sent; 422 "
        "`idempotency_key_reused` where another request had the key",
    ),
    "X-Request-Id": (TEXT, "The client's id for the request, for the answer and the logs"),
}
_HEADERS: dict[str, tuple[Schema, str]] = {
    "X-Synap-Offset": (NATURAL, "The offset that was read, or where the write stands in the log"),
    "X-Synap-Position": (POSITION, "The same place in the log, and who wrote there; opaque"),
    "Idempotent-Replayed": (
        {"const": "true"},
        "There where the request was done when it came before, and not again",
    ),
    "X-Synap-Lag-Ms": (INTEGER, "At a replica: how old the data may be"),
    "X-Synap-Master": (TEXT, "Where writes go, where that is known"),
    "X-Synap-Checksum": (TEXT, "`sha256:` and the checksum that also ends the file"),
    "X-Request-Id": (TEXT, "The request's id"),
    "ETag": (TEXT, "The key's version, a position in quotes"),
    "Retry-After": (NATURAL, "Seconds to wait"),
    "WWW-Authenticate": (TEXT, "Says that Basic is one of the ways"),
}
_ERROR_HEADERS = {
    401: ("WWW-Authenticate", "X-Request-Id"),
    421: ("X-Synap-Master", "X-Request-Id"),
    429: ("Retry-After", "X-Request-Id"),
}
_SECURITY: dict[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "A user and a password."},
}


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoint."""
    app.add_route("/openapi.json", Description(node, api))


class Description(Resource):
    """The API's description."""

    is_long = True

    async def on_get(self, req: Request, resp: Response) -> None:
        resp.data = encoded_description(self._node.config.auth.enabled)


@cache
def encoded_description(is_guarded: bool) -> bytes:
    """Return the description as JSON; see `describe`."""
    return orjson.dumps(describe(is_guarded))


def describe(is_guarded: bool) -> dict[str, Any]:
    """Return the description, as an OpenAPI document.

    Args:
        is_guarded: Whether requests need credentials.
    """
    ways: list[dict[str, list[str]]] = [{name: []} for name in _SECURITY]
    paths: dict[str, dict[str, Any]] = {}
    reasons = reasons_by_status()
    for theme, routes in ROUTES.items():
        for route in routes:
            described = _described(route, theme)
            paths.setdefault(route.path, {})[route.method.lower()] = described
    # Answers that are described as one whole: of an unknown method, and those that are named.
    whole = {405, *map(int, re.findall(rb'"#/components/responses/(\d+)"', orjson.dumps(paths)))}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Synap", "version": __version__, "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": theme} for theme in ROUTES],
        "security": ways if is_guarded else [*ways, {}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS | _body_schemas(),
            "parameters": {name: _parameter(name, *rest) for name, rest in _PARAMETERS.items()},
            "headers": {
                name: {"schema": schema, "description": text}
                for name, (schema, text) in _HEADERS.items()
            },
            "responses": {str(status): _error(status, reasons[status]) for status in sorted(whole)},
            "securitySchemes": _SECURITY,
        },
    }  # fmt: skip


def reasons_by_status() -> dict[int, set[str]]:
    """Return the reasons that errors of commands and of the node have, by their status."""
    found: dict[int, set[str]] = {status: {word} for status, word in HTTP_REASONS.items()}
    for kind in SynapError.kinds():
        status = next(STATUS[each] for each in kind.__mro__ if each in STATUS)
        # The bases of the refusals are raised by nothing; a 500 may be any of the rest.
        if status != 500 and kind not in _BASES:
            found.setdefault(status, set()).add(kind.reason)
    found[500] = {SynapError.reason, SnapshotError.reason}
    found[OVERLOADED.status].add(OVERLOADED.reason)
    return found


_BASES = (AccessRefused, WriteRefused, ReadRefused)


def _described(route: Route, theme: str) -> dict[str, Any]:
    fields = re.findall(r"{(\w+)}", route.path)
    kind = route.kind
    example = example_of(f"{route.method} {route.path}")
    parameters: list[Schema] = [_path_field(name, example) for name in fields]
    parameters += [
        {
            "name": each.name,
            "in": each.place,
            "description": each.description,
            "required": each.is_required,
            "schema": each.schema,
            **_shown(example.query.get(each.name)),
        }
        for each in route.parameters
    ]
    parameters += [_component("parameters", name) for name in (*CONDITIONS[kind], "X-Request-Id")]
    described: dict[str, Any] = {
        "operationId": route.method.lower() + re.sub(r"\W+", "_", route.path).rstrip("_"),
        "tags": [theme],
        "summary": route.summary,
        "description": f"```sh\n{example.curl}\n```",
        "parameters": parameters,
        "responses": _responses(route, example),
    }
    if route.body is not None:
        schema = ref(route.body.__name__)
        described["requestBody"] = {
            "required": not route.is_body_optional,
            "content": {_JSON: {"schema": schema, **_shown(example.body)}},
        }
    elif route.takes_bytes:
        content = {"schema": {}, **_shown(example.text)}
        described["requestBody"] = {"content": {"application/octet-stream": content}}
    if kind == "public":
        described["security"] = []
    return described


def _shown(example: Any) -> dict[str, Any]:
    return {} if example is None else {"example": example}


def _path_field(name: str, example: Example) -> Schema:
    text = "A key: 1 to 503 bytes of UTF-8" if name == "key" else f"The {name}"
    schema = {"type": "string", "minLength": 1}
    return {
        "name": name, "in": "path", "required": True, "description": text, "schema": schema,
        **_shown(example.path.get(name)),
    }  # fmt: skip


def _responses(route: Route, example: Example) -> dict[str, Any]:
    names = dict.fromkeys((*route.headers, *_ANSWER_HEADERS[route.kind]))
    headers = {name: _component("headers", name) for name in names}
    forms = ((route.media_type, route.answer), *route.other_forms)
    content: dict[str, Any] = {media_type: {"schema": ref(form)} for media_type, form in forms}
    content[route.media_type] |= _shown(example.answer)
    answers: dict[str, Any] = {
        "200": {"description": "Done", "headers": headers, "content": content}
    }
    statuses = {*_STATUSES[route.kind], *route.statuses}
    if route.body is not None:
        statuses.update(_WITH_JSON_BODY)
    elif not route.takes_bytes:
        statuses.update(_WITHOUT_BODY)
    if route.path.startswith("/kv/{key}/"):
        # The key's place may hold a word that has a meaning there.
        statuses.add(404)
    if route.kind == "public":
        form = {route.media_type: {"schema": ref(route.answer)}}
        refused = {"description": "It does not; the body says why", "content": form}
        answers["503"] = refused | {"headers": headers}
    for status in sorted(statuses):
        if status == 304:
            answers["304"] = {"description": "The client has this version", "headers": headers}
        else:
            answers[str(status)] = _refusal(route, status)
    return answers


def _refusal(route: Route, status: int) -> dict[str, Any]:
    """Return a refusal with the reasons that this operation has; all of them have one name."""
    possible = reasons_by_status()[status]
    reasons = reasons_of(route, possible)
    whole = reasons == possible or status == 401
    return _component("responses", str(status)) if whole else _error(status, reasons)


def _error(status: int, reasons: set[str]) -> dict[str, Any]:
    names = _ERROR_HEADERS.get(status, ("X-Request-Id",))
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": {name: _component("headers", name) for name in names},
    }
    properties: Schema = {
        "code": {"const": status},
        "reason": {"enum": sorted(reasons)},
    }
    if status == 421:
        properties["master"] = {"type": ["string", "null"], "description": "Where writes go."}
    schema = {"allOf": [ref("Error"), {"type": "object", "properties": properties}]}
    return answer | {"content": {_JSON: {"schema": schema}}}


# Those that may have more fields than are told: what is asked for by name, and an answer.
_OPEN_BODIES = {"CommandBody", "OneCommand", "ReplicaFacts", "Permission"}


def _body_schemas() -> dict[str, Schema]:
    types = [
        route.body
        for routes in ROUTES.values()
        for route in routes
        if route.body is not None and route.body.__name__ not in SCHEMAS
    ]
    _, schemas = msgspec.json.schema_components(
        [*dict.fromkeys(types), Permission, ReplicaFacts],
        ref_template="#/components/schemas/{name}",
    )
    for schema in schemas.values():
        # Paths and attributes, which are for readers of the code.
        schema.pop("description", None)
        for each in schema["properties"].values():
            # JSON has no tuples.
            if each.get("default") == ():
                each["default"] = []
        for name in {"key", "destination"} & schema["properties"].keys():
            schema["properties"][name] |= {"minLength": 1}
    for name in schemas.keys() - _OPEN_BODIES:
        schemas[name]["additionalProperties"] = False
    for (name, field), text in FIELDS.items():
        schemas[name]["properties"][field]["description"] = text
    return schemas


def _parameter(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _component(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
