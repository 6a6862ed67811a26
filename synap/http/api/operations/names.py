"""Keys as names, whatever they hold."""

from __future__ import annotations

from typing import Any

import msgspec

from synap.auth.permissions import Caller
from synap.commands.keys import Copy, Rename
from synap.commands.records import Record
from synap.http.api.openapi.route import get, post
from synap.http.api.operations.operation import (
    Context,
    LongRead,
    Look,
    Nothing,
    Read,
    Write,
    as_it_is,
    named,
)
from synap.place import LogEnd
from synap.service.node_api import NodeApi


class KeyBody(msgspec.Struct, gc=False):
    """One key."""

    key: str


class DestinationBody(msgspec.Struct, gc=False):
    """`rename`, `renamenx` and `copy`."""

    destination: str
    replace: bool = False

    def rename(self, source: bytes, *, nx: bool) -> Rename:
        return Rename(source, self.destination.encode(), nx)

    def copy(self, source: bytes) -> Copy:
        return Copy(source, self.destination.encode(), self.replace)


def _kind(key: bytes, body: Nothing, record: Record | None) -> object:
    return {"key": key.decode(), "type": "none" if record is None else "string"}


def _existence(key: bytes, body: Nothing, record: Record | None) -> object:
    return {"key": key.decode(), "exists": record is not None}


def _look_by_name(
    api: NodeApi, caller: Caller, key: bytes, body: KeyBody
) -> tuple[Record | None, LogEnd]:
    return api.look(caller, body.key.encode())


def _moved(key: bytes, body: DestinationBody, success: bool) -> object:
    return {"success": success, "source": key.decode(), "destination": body.destination}


async def _random_key(context: Context, key: bytes, body: Nothing) -> str | None:
    found, end = await context.api.random_key(context.caller)
    context.saw(end)
    return found


def _usage(context: Context, key: bytes, body: Nothing) -> dict[str, Any]:
    usage, end = context.facts.memory_usage(context.caller, key)
    context.saw(end)
    return usage


NAMES = (
    Look(
        "key.type",
        get("/key/{key}/type", "Get the kind of a key's value", "Kind"),
        Nothing,
        NodeApi.look,
        _kind,
    ),
    Look(
        "key.exists",
        get("/key/{key}/exists", "See whether a key exists", "Existence"),
        Nothing,
        NodeApi.look,
        _existence,
    ),
    Write(
        "key.rename",
        post("/key/{key}/rename", "Rename a key", "Move", statuses=(404,)),
        DestinationBody,
        lambda key, body: body.rename(key, nx=False),
        _moved,
        key_field="source",
        action="delete",
    ),
    Write(
        "key.renamenx",
        post(
            "/key/{key}/renamenx",
            "Rename a key where the new name is free",
            "Move",
            statuses=(404,),
        ),
        DestinationBody,
        lambda key, body: body.rename(key, nx=True),
        _moved,
        key_field="source",
        action="delete",
    ),
    Write(
        "key.copy",
        post("/key/{key}/copy", "Copy a key", "Move", statuses=(404,)),
        DestinationBody,
        lambda key, body: body.copy(key),
        _moved,
        key_field="source",
        action="read",
    ),
    LongRead(
        "key.randomkey",
        get("/key/randomkey", "Get some key", "RandomKey"),
        Nothing,
        _random_key,
        named("key"),
    ),
    Read(
        "memory.usage",
        get("/memory/{key}/usage", "See what a key takes up", "Usage", statuses=(404,)),
        Nothing,
        _usage,
        as_it_is,
    ),
    Look(
        "kv.exists",
        None,
        KeyBody,
        _look_by_name,
        lambda key, body, record: {"exists": record is not None},
    ),
)
