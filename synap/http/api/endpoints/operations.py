"""The routes of the operations: `/kv/…`, `/key/…`, and what the node tells of itself.

One responder serves them all. It adds the key of the path to what the request says, has the
operation carried out, and answers with what that shows; see `synap.http.api.operations`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from falcon.asgi import Response

from synap.commands.keys import Delete
from synap.commands.once import RequestKey, WithoutResult
from synap.commands.records import check_key
from synap.commands.strings import Set
from synap.http.api.bodies import decoder
from synap.http.api.conditions import Conditions, client_has, conditions_of
from synap.http.api.errors import answer_error
from synap.http.api.etags import ASK_AGAIN, etag_of
from synap.http.api.headers import IDEMPOTENCY_KEY, MIN_REPLICAS
from synap.http.api.idempotency import WITHOUT_RESULT, described, request_key
from synap.http.api.openapi.route import IF_MATCH, Parameter, Route
from synap.http.api.operations.operation import Context, LongRead, Operation, Read, Write
from synap.http.api.operations.table import by_path
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param, text_param
from synap.ipc.writer_client import Done
from synap.place import LogEnd
from synap.request_errors import KeyNotFound
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.node_facts import NodeFacts

Responder = Callable[..., Awaitable[None]]


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the routes of all operations."""
    facts = NodeFacts(node, api)
    for path, operations in by_path().items():
        # Under /kv/ a key stands where a word may stand, too.
        field = "{key:kv_key}" if path.startswith("/kv/{key}/") else "{key:key}"
        resource = OperationResource(node, api, facts, operations)
        app.add_route(path.replace("{key}", field), resource)


class OperationResource(Resource):
    """The operations of one path; each of its methods has a responder."""

    def __init__(
        self,
        node: LocalNode,
        api: NodeApi,
        facts: NodeFacts,
        operations: Sequence[Operation[Any, Any]],
    ) -> None:
        super().__init__(node, api)
        self._facts = facts
        self.is_long = all(
            isinstance(each, Read) or (isinstance(each, LongRead) and each.look is None)
            for each in operations
        )
        for operation in operations:
            assert operation.route is not None
            respond = self._write if operation.is_write else self._read
            name = f"on_{operation.route.method.lower()}"
            setattr(self, name, respond(operation, operation.route))

    def _read(self, operation: Operation[Any, Any], route: Route) -> Responder:
        read_body = self._body_reader(operation, route)
        is_of_store, has_etag = route.kind == "read", "ETag" in route.headers

        async def respond(req: Request, resp: Response, key: bytes = b"") -> None:
            body = await read_body(req, key)
            if is_of_store:
                await self.await_applied(req)
            replicas = self.min_replicas(req) if MIN_REPLICAS in req.raw_headers else 0
            context = Context(self._api, self._facts, req.caller, req.holder, replicas)
            context.is_strong = self.is_strong(req)
            found = await operation.carry_out(context, key, body)
            await context.confirm()
            end = context.end
            if end is not None:
                self.stamp_read(resp, end)
            if has_etag and found is not None and end is not None:
                version = self.version_of(found, end)
                resp.set_headers((("ETag", etag_of(version)), ("Cache-Control", ASK_AGAIN)))
                if client_has(req.raw_headers, version):
                    resp.status = 304
                    return
            shown = operation.show(key, body, found)
            if isinstance(shown, KeyNotFound):
                answer_error(resp, shown)
            else:
                resp.data = orjson.dumps(shown)

        return respond

    def _write(self, operation: Operation[Any, Any], route: Route) -> Responder:
        read_body = self._body_reader(operation, route)
        takes_conditions = IF_MATCH in route.parameters
        name = f"{route.method} {route.path}"
        version_of = operation.version if isinstance(operation, Write) else None

        async def respond(req: Request, resp: Response, key: bytes = b"") -> None:
            body = await read_body(req, key)
            headers = req.raw_headers
            conditions = conditions_of(headers) if takes_conditions else None
            request = None
            if IDEMPOTENCY_KEY in headers:
                request = request_key(
                    headers, described(name, key, body), is_conditional=conditions is not None
                )
            if conditions is not None:
                done = await self._write_on_conditions(
                    req, operation, key, body, conditions, request
                )
                end, result, is_replayed = done.end, done.result, done.is_replayed
            else:
                await self.await_before_write(req)
                replicas = self.min_replicas(req) if MIN_REPLICAS in headers else 0
                context = Context(self._api, self._facts, req.caller, req.holder, replicas)
                context.request = request
                result = await operation.carry_out(context, key, body)
                assert context.end is not None, "a write has an end"
                end, is_replayed = context.end, context.is_replayed
            self.stamp_write(resp, end)
            self.stamp_replayed(resp, is_replayed)
            if isinstance(result, WithoutResult):
                resp.data = orjson.dumps(WITHOUT_RESULT)
            else:
                shown = operation.show(key, body, result)
                if version_of is not None:
                    # The record of a request that has a name is the entry behind its effect.
                    last = end.offset - (request is not None)
                    self._tell_version(shown, version_of(body, result, last), end)
                resp.data = orjson.dumps(shown)

        return respond

    def _tell_version(self, shown: Any, version: int, end: LogEnd) -> None:
        if version:
            shown["version"] = self._node.reigns(end.history).token(version)

    async def _write_on_conditions(
        self,
        req: Request,
        operation: Operation[Any, Any],
        key: bytes,
        body: Any,
        conditions: Conditions,
        request: RequestKey | None,
    ) -> Done:
        assert isinstance(operation, Write)
        command = operation.prepare(key, body)
        assert isinstance(command, Set | Delete), "no other command has a condition"
        key = command.key if isinstance(command, Set) else key
        check_key(key)
        return await self.write_on_conditions(req, key, command, conditions, request)

    def _body_reader(
        self, operation: Operation[Any, Any], route: Route
    ) -> Callable[[Request, bytes], Awaitable[Any]]:
        """Return what reads the operation's body out of a request for a path's key."""
        if operation.takes_json:
            decode = operation.decode or decoder(operation.body)

            async def read_json(req: Request, key: bytes) -> Any:
                operation.admit(req.caller, key)
                return await self.read_body(req, decode)

            return read_json

        body, parameters = operation.body, route.query
        without = None if any(each.is_required for each in parameters) else body()

        async def read_query(req: Request, key: bytes) -> Any:
            if without is not None and not req.query_string:
                return without
            return body(**query_values(parameters, req))

        return read_query


def query_values(parameters: Sequence[Parameter], req: Request) -> dict[str, object]:
    """Return what a query has of `parameters`, by their names.

    Raises:
        InvalidRequest: one is missing, is no integer, or is given more than once.
    """
    values: dict[str, object] = {}
    for parameter in parameters:
        name, schema = parameter.name, parameter.schema
        if schema.get("type") == "integer":
            values[name] = integer_param(req, name, schema.get("default"))
            continue
        text = text_param(req, name)
        # A choice that is left blank is none; other texts may be empty.
        if text is not None and (text or "enum" not in schema):
            values[name] = text
    return values
