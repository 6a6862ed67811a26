"""`/cluster/slots`: which slots this cluster has, and the steps of moving one.

`synap slots` is what takes the steps; see `synap.commands.slots` for what they mean.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import orjson
from falcon.asgi import Response

from synap.commands.commands import Command
from synap.commands.once import SCOPE_BYTES
from synap.commands.records import MAX_KEY_BYTES, check_keys
from synap.commands.slots import MAX_FREEZE_MS, BringRequests, ChangeSlot, ClearSlot, Step
from synap.http.api import bodies
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource, integer_param, text_param
from synap.place import Place, parse_place
from synap.request_errors import FieldInvalid, InvalidRequest
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.slot_table import SlotTable, Standing
from synap.slots import ranges

_SLOT = Annotated[int, msgspec.Meta(ge=0, lt=1024)]
_MAX_KEYS = 10_000
# In one answer: what a thread looks through in some 10 ms.
_LOOKED_AT = 10_000
# Of them and of one request: much less than a body may have, in hex.
_REQUEST_BYTES = 256 * 1024
_POSITION = Annotated[str, msgspec.Meta(max_length=29)] | None


class SlotStepBody(msgspec.Struct, gc=False):
    """`/cluster/slots/step`."""

    slot: _SLOT
    step: Step
    milliseconds: Annotated[int, msgspec.Meta(ge=1, le=MAX_FREEZE_MS)] = 5000
    cluster: Annotated[str, msgspec.Meta(max_length=64)] = ""
    url: Annotated[str, msgspec.Meta(max_length=300)] = ""
    freeze: _POSITION = None
    come: _POSITION = None


class ClearSlotBody(msgspec.Struct, gc=False):
    """`/cluster/slots/clear`."""

    slot: _SLOT
    keys: Annotated[list[str], msgspec.Meta(max_length=_MAX_KEYS)]


class BroughtRequest(msgspec.Struct, gc=False):
    """A record of a request, as `/cluster/slots/requests` tells it and takes it."""

    key: str
    value: str
    expires_at_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class BringRequestsBody(msgspec.Struct, gc=False):
    """`/cluster/slots/requests`."""

    slot: _SLOT
    records: Annotated[list[BroughtRequest], msgspec.Meta(max_length=_MAX_KEYS)]


_requests_body = bodies.decoder(BringRequestsBody)
_step_body = bodies.decoder(SlotStepBody)
_clear_body = bodies.decoder(ClearSlotBody)


def add_routes(app: App, node: LocalNode, api: NodeApi, table: SlotTable | None) -> None:
    """Add the endpoints."""
    slots = Slots(node, api, table)
    app.add_route("/cluster/slots", slots)
    app.add_route("/cluster/slots/step", slots, suffix="step")
    app.add_route("/cluster/slots/clear", slots, suffix="clear")
    app.add_route("/cluster/slots/requests", slots, suffix="requests")


class Slots(Resource):
    """The slots."""

    def __init__(self, node: LocalNode, api: NodeApi, table: SlotTable | None) -> None:
        super().__init__(node, api)
        self._table = table

    async def on_get(self, req: Request, resp: Response) -> None:
        standings = [] if self._table is None else self._table.standings()
        resp.data = orjson.dumps(
            {
                "cluster": self._node.config.sharding.cluster,
                "slots": _by_owner(standings),
                "moved": [_moved(each) for each in standings if each.record is not None],
            }
        )

    async def on_post_step(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _step_body)
        command = ChangeSlot(
            body.slot, body.step, body.milliseconds, body.cluster, body.url,
            _place(body.freeze, "freeze"), _place(body.come, "come"),
        )  # fmt: skip
        await self._take(req, resp, command, "done")

    async def on_post_clear(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _clear_body)
        keys = tuple(key.encode() for key in body.keys)
        check_keys(keys)
        await self._take(req, resp, ClearSlot(body.slot, keys), "removed")

    async def on_get_requests(self, req: Request, resp: Response) -> None:
        await self.await_applied(req)
        slot = integer_param(req, "slot")
        after = _from_hex(text_param(req, "after") or "", "parameter 'after'")
        reader = self._node.reader()
        found, last, end = await self._node.in_thread(
            lambda: reader.requests_of_slot(slot, after, limit=_LOOKED_AT, max_bytes=_REQUEST_BYTES)
        )
        await self.await_held(req, end.offset, end)
        records = [
            {"key": key.hex(), "value": value.hex(), "expires_at_ms": expiry_ms}
            for key, value, expiry_ms in found
        ]
        next_key = None if last is None else last.hex()
        self.answer_read(resp, end, {"records": records, "next": next_key})

    async def on_post_requests(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _requests_body)
        records = tuple(
            (_request_key(each.key), _from_hex(each.value, "field 'value'"), each.expires_at_ms)
            for each in body.records
        )
        await self._take(req, resp, BringRequests(body.slot, records), "remembered")

    async def _take(self, req: Request, resp: Response, command: Command, word: str) -> None:
        self._needed()
        done = await self.write(req, command)
        position = self._node.reigns(done.history).token(done.offset)
        self.answer_write(resp, done.end, {word: done.result, "position": position})

    def _needed(self) -> SlotTable:
        if self._table is None:
            raise InvalidRequest("this node has all keys: sharding.slots is not set")
        return self._table


def _by_owner(standings: list[Standing]) -> list[dict[str, object]]:
    """Return who has which slots, as far as this cluster knows."""
    held: dict[tuple[str, str], list[int]] = {}
    for each in standings:
        held.setdefault((each.owner.cluster, each.owner.url), []).append(each.slot)
    return [
        {"cluster": cluster, "url": url, "count": len(slots), "slots": ranges(slots)}
        for (cluster, url), slots in held.items()
    ]


def _from_hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise FieldInvalid(f"{what} is not in hex") from error


def _request_key(text: str) -> bytes:
    """Return where the record of a request stands.

    Raises:
        FieldInvalid: it could stand nowhere.
    """
    key = _from_hex(text, "field 'key'")
    if not SCOPE_BYTES < len(key) <= MAX_KEY_BYTES:
        raise FieldInvalid("field 'key' is none of a request's record")
    return key


def _place(text: str | None, field: str) -> Place | None:
    """Return the place that a field names.

    Raises:
        FieldInvalid: it names none.
    """
    try:
        return None if text is None else parse_place(text)
    except ValueError as error:
        raise FieldInvalid(f"field '{field}' is {error}") from error


def _moved(standing: Standing) -> dict[str, object]:
    record = standing.record
    assert record is not None
    return {
        "slot": standing.slot,
        "state": record.state,
        "is_own": standing.is_own,
        "until_ms": record.until_ms or None,
        "cluster": standing.owner.cluster,
        "url": standing.owner.url,
        "freeze": record.freeze or None,
        "is_cleared": record.is_cleared,
    }
