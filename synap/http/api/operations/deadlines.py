"""When a key is gone."""

from __future__ import annotations

import msgspec

from synap.commands.keys import Expire, Persist
from synap.commands.records import Record
from synap.http.api.bodies import Natural, expiry_after
from synap.http.api.openapi.route import get, post
from synap.http.api.operations.operation import Look, Nothing, Write, if_done, named
from synap.service.node_api import NodeApi, not_found, seconds_left
from synap.shared.node_clock import begun_ms


class TtlBody(msgspec.Struct, gc=False):
    """`expire`."""

    ttl: Natural


def _ttl(key: bytes, body: Nothing, record: Record | None) -> object:
    return not_found(key) if record is None else {"ttl": seconds_left(record)}


DEADLINES = (
    Write(
        "kv.expire",
        post("/kv/{key}/expire", "Give a key a deadline", "Result"),
        TtlBody,
        lambda key, body: Expire(key, expiry_after(body.ttl, begun_ms())),
        named("result"),
        # Without time it is removed.
        version=lambda body, is_there, last: last if is_there and body.ttl else 0,
    ),
    Write(
        "kv.persist",
        post("/kv/{key}/persist", "Take a key's deadline away", "Result"),
        Nothing,
        lambda key, body: Persist(key),
        named("result"),
        version=if_done,
    ),
    Look(
        "kv.ttl",
        get("/kv/{key}/ttl", "Get the seconds that a key has left", "Ttl", statuses=(404,)),
        Nothing,
        NodeApi.look,
        _ttl,
    ),
)
