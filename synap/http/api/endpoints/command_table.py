"""The commands of `/api/v1/command`: name, payload, and what becomes of it.

Each calls what the REST resources call. `synap.http.api.endpoints.named_command` says what a
command is, and `synap.http.api.endpoints.commands` has the envelopes and the batches around them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from synap.commands.commands import Command
from synap.commands.keys import Delete, Expire, Flush, Persist
from synap.commands.records import slice_range
from synap.commands.strings import SetResult
from synap.commands.transactions import (
    Discard,
    Exec,
    Executed,
    Multi,
    Queued,
    TransactionCommand,
    Unwatch,
    Watch,
)
from synap.commands.values import byte_list, readable
from synap.http.api import bodies
from synap.http.api.endpoints import command_payloads as payloads
from synap.http.api.endpoints.named_command import CommandContext, NamedCommand, Payload, checked
from synap.service.node_api import not_found, now_ms, seconds_left

_QUEUED = {"success": True, "queued": True}
_ABORTED = {"aborted": True, "message": "Transaction aborted: watched keys changed"}


async def _set(context: CommandContext, payload: payloads.SetPayload) -> object:
    result = await context.write(payload.command(now_ms), payload.client_id)
    if isinstance(result, Queued):
        return _QUEUED
    assert isinstance(result, SetResult)
    answer: dict[str, object] = {"success": True}
    if payload.has_condition:
        answer["written"] = result.written
    if payload.get:
        answer["old_value"] = _readable_or_none(result.old)
    return answer


async def _get(context: CommandContext, payload: payloads.GetPayload) -> object:
    record, offset = context.api.get(context.caller, checked(payload.key))
    context.saw(offset)
    if record is None:
        return None
    return byte_list(record.value) if payload.type == "bytes" else readable(record.value)


async def _del(context: CommandContext, payload: payloads.DeletePayload) -> object:
    result = await context.write(payload.command(), payload.client_id)
    if isinstance(result, Queued):
        return _QUEUED
    return {"deleted": result if payload.keys is not None else bool(result)}


async def _exists(context: CommandContext, payload: payloads.KeyPayload) -> object:
    return {"exists": context.look(payload.key) is not None}


def _adding(sign: int) -> Callable[[CommandContext, payloads.AmountPayload], Awaitable[object]]:
    async def add(context: CommandContext, payload: payloads.AmountPayload) -> object:
        result = await context.write(payload.command(sign), payload.client_id)
        return _QUEUED if isinstance(result, Queued) else {"value": result}

    return add


def _setting_many(
    *, nx: bool
) -> Callable[[CommandContext, payloads.PairsPayload], Awaitable[object]]:
    async def set_many(context: CommandContext, payload: payloads.PairsPayload) -> object:
        return {"success": await context.write(payload.command(nx=nx))}

    return set_many


async def _mget(context: CommandContext, payload: bodies.KeysBody) -> object:
    values, offset = await context.api.get_many(context.caller, payload.encoded())
    context.saw(offset)
    return {"values": [_parsed(value) for value in values]}


async def _mdel(context: CommandContext, payload: bodies.KeysBody) -> object:
    return {"deleted": await context.write(Delete(payload.encoded()))}


async def _scan(context: CommandContext, payload: payloads.ScanPayload) -> object:
    page = await context.api.scan(
        context.caller,
        prefix=payload.prefix.encode(),
        pattern=None if payload.pattern is None else payload.pattern.encode(),
        cursor=payload.place,
        limit=payload.page_keys,
    )
    context.saw(page.offset)
    return page.shown()


async def _keys(context: CommandContext, payload: payloads.PatternPayload) -> object:
    page = await context.api.list_keys(context.caller, payload.pattern.encode())
    context.saw(page.offset)
    answer: dict[str, object] = {"keys": page.keys, "count": len(page.keys)}
    if page.cursor is not None:
        answer |= {"truncated": True, "cursor": page.cursor}
    return answer


async def _dbsize(context: CommandContext, payload: payloads.Nothing) -> object:
    stats = await context.api.stats(context.caller)
    context.saw(stats.offset)
    return {"size": stats.total_keys}


async def _stats(context: CommandContext, payload: payloads.Nothing) -> object:
    stats = await context.api.stats(context.caller)
    context.saw(stats.offset)
    return stats.shown()


async def _flush(context: CommandContext, payload: payloads.Nothing) -> object:
    return {"flushed": await context.write(Flush())}


async def _expire(context: CommandContext, payload: payloads.ExpirePayload) -> object:
    expiry_ms = bodies.expiry_after(payload.ttl, now_ms())
    return {"result": await context.write(Expire(payload.key.encode(), expiry_ms))}


async def _persist(context: CommandContext, payload: payloads.KeyPayload) -> object:
    return {"result": await context.write(Persist(payload.encoded()))}


async def _ttl(context: CommandContext, payload: payloads.KeyPayload) -> object:
    record = context.look(payload.key)
    if record is None:
        raise not_found(payload.encoded())
    return {"ttl": seconds_left(record)}


async def _append(context: CommandContext, payload: payloads.ValuePayload) -> object:
    return {"length": await context.write(payload.append())}


async def _set_range(context: CommandContext, payload: payloads.SetRangePayload) -> object:
    return {"length": await context.write(payload.command())}


async def _get_range(context: CommandContext, payload: payloads.GetRangePayload) -> object:
    record, offset = context.api.get(context.caller, checked(payload.key))
    context.saw(offset)
    if record is None:
        return None
    return readable(slice_range(record.value, payload.start, payload.end))


async def _strlen(context: CommandContext, payload: payloads.KeyPayload) -> object:
    record = context.look(payload.key)
    return {"length": 0 if record is None else len(record.value)}


async def _get_set(context: CommandContext, payload: payloads.ValuePayload) -> object:
    return _readable_or_none(await context.write(payload.get_set()))


async def _type(context: CommandContext, payload: payloads.KeyPayload) -> object:
    return {"key": payload.key, "type": "none" if context.look(payload.key) is None else "string"}


async def _key_exists(context: CommandContext, payload: payloads.KeyPayload) -> object:
    return {"key": payload.key, "exists": context.look(payload.key) is not None}


async def _random_key(context: CommandContext, payload: payloads.Nothing) -> object:
    key, offset = await context.api.random_key(context.caller)
    context.saw(offset)
    return {"key": key}


def _renaming(*, nx: bool) -> Callable[[CommandContext, payloads.MovePayload], Awaitable[object]]:
    async def rename(context: CommandContext, payload: payloads.MovePayload) -> object:
        return await _move(context, payload, payload.rename(payload.source.encode(), nx=nx))

    return rename


async def _copy(context: CommandContext, payload: payloads.MovePayload) -> object:
    return await _move(context, payload, payload.copy(payload.source.encode()))


async def _move(context: CommandContext, payload: payloads.MovePayload, command: Command) -> object:
    success = await context.write(command)
    return {"success": success, "source": payload.source, "destination": payload.destination}


async def _multi(context: CommandContext, payload: payloads.ClientPayload) -> object:
    return await _transact(context, Multi(payload.client_id), "Transaction started")


async def _discard(context: CommandContext, payload: payloads.ClientPayload) -> object:
    return await _transact(context, Discard(payload.client_id), "Transaction discarded")


async def _watch(context: CommandContext, payload: payloads.WatchPayload) -> object:
    return await _transact(context, Watch(payload.client_id, payload.encoded()), "Keys watched")


async def _unwatch(context: CommandContext, payload: payloads.ClientPayload) -> object:
    return await _transact(context, Unwatch(payload.client_id), "Keys unwatched")


async def _transact(context: CommandContext, command: TransactionCommand, message: str) -> object:
    await context.transact(command)
    return {"success": True, "message": message}


async def _exec(context: CommandContext, payload: payloads.ClientPayload) -> object:
    executed = await context.transact(Exec(payload.client_id))
    assert isinstance(executed, Executed)
    if executed.results is None:
        return _ABORTED
    results = [{word: bool(n) if word == "ok" else n} for word, n in executed.results]
    return {"success": True, "results": results}


def _readable_or_none(value: bytes | None) -> str | None:
    return None if value is None else readable(value)


def _parsed(value: bytes | None) -> object:
    """Return a stored value as the JSON that it is, with its own text; else as a string."""
    if value is None:
        return None
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return readable(value)
    return orjson.Fragment(value)


def _read(
    payload: type[Payload], act: Callable[[CommandContext, Payload], Awaitable[object]]
) -> NamedCommand[Payload]:
    return NamedCommand(payload, act, is_write=False)


def _write(
    payload: type[Payload], act: Callable[[CommandContext, Payload], Awaitable[object]]
) -> NamedCommand[Payload]:
    return NamedCommand(payload, act, is_write=True)


async def memory_usage(context: CommandContext, payload: payloads.KeyPayload) -> object:
    """Return about what a key takes up in the store."""
    usage, offset = context.facts.memory_usage(context.caller, payload.encoded())
    context.saw(offset)
    return usage


async def info(context: CommandContext, payload: payloads.SectionPayload) -> object:
    """Return the facts by the names that Redis has for them."""
    sections, offset = await context.facts.info(context.caller, payload.section)
    context.saw(offset)
    return sections


async def admin_stats(context: CommandContext, payload: payloads.Nothing) -> object:
    """Return the content of `/stats`."""
    facts, offset = await context.facts.stats(context.caller)
    context.saw(offset)
    return facts


async def slowlog_get(context: CommandContext, payload: payloads.CountPayload) -> object:
    """Return the newest entries of the slow log."""
    return context.facts.slow_log(context.caller, payload.count)


async def slowlog_reset(context: CommandContext, payload: payloads.Nothing) -> object:
    """Forget the slow log's entries."""
    return context.facts.reset_slow_log(context.caller)


async def client_list(context: CommandContext, payload: payloads.Nothing) -> object:
    """Return the connections to the node."""
    return await context.facts.clients(context.caller)


COMMANDS: dict[str, NamedCommand[Any]] = {
    "kv.set": _write(payloads.SetPayload, _set),
    "kv.get": _read(payloads.GetPayload, _get),
    "kv.del": _write(payloads.DeletePayload, _del),
    "kv.exists": _read(payloads.KeyPayload, _exists),
    "kv.incr": _write(payloads.AmountPayload, _adding(1)),
    "kv.incrby": _write(payloads.AmountPayload, _adding(1)),
    "kv.decr": _write(payloads.AmountPayload, _adding(-1)),
    "kv.decrby": _write(payloads.AmountPayload, _adding(-1)),
    "kv.mset": _write(payloads.PairsPayload, _setting_many(nx=False)),
    "kv.msetnx": _write(payloads.PairsPayload, _setting_many(nx=True)),
    "kv.mget": _read(bodies.KeysBody, _mget),
    "kv.mdel": _write(bodies.KeysBody, _mdel),
    "kv.scan": _read(payloads.ScanPayload, _scan),
    "kv.keys": _read(payloads.PatternPayload, _keys),
    "kv.dbsize": _read(payloads.Nothing, _dbsize),
    "kv.flushdb": _write(payloads.Nothing, _flush),
    "kv.flushall": _write(payloads.Nothing, _flush),
    "kv.expire": _write(payloads.ExpirePayload, _expire),
    "kv.persist": _write(payloads.KeyPayload, _persist),
    "kv.ttl": _read(payloads.KeyPayload, _ttl),
    "kv.stats": _read(payloads.Nothing, _stats),
    "kv.append": _write(payloads.ValuePayload, _append),
    "kv.setrange": _write(payloads.SetRangePayload, _set_range),
    "kv.getrange": _read(payloads.GetRangePayload, _get_range),
    "kv.strlen": _read(payloads.KeyPayload, _strlen),
    "kv.getset": _write(payloads.ValuePayload, _get_set),
    "key.type": _read(payloads.KeyPayload, _type),
    "key.exists": _read(payloads.KeyPayload, _key_exists),
    "key.rename": _write(payloads.MovePayload, _renaming(nx=False)),
    "key.renamenx": _write(payloads.MovePayload, _renaming(nx=True)),
    "key.copy": _write(payloads.MovePayload, _copy),
    "key.randomkey": _read(payloads.Nothing, _random_key),
    "memory.usage": _read(payloads.KeyPayload, memory_usage),
    "info": _read(payloads.SectionPayload, info),
    "admin.stats": _read(payloads.Nothing, admin_stats),
    "slowlog.get": _read(payloads.CountPayload, slowlog_get),
    "slowlog.reset": _read(payloads.Nothing, slowlog_reset),
    "client.list": _read(payloads.Nothing, client_list),
    "transaction.multi": _write(payloads.ClientPayload, _multi),
    "transaction.exec": _write(payloads.ClientPayload, _exec),
    "transaction.discard": _write(payloads.ClientPayload, _discard),
    "transaction.watch": _write(payloads.WatchPayload, _watch),
    "transaction.unwatch": _write(payloads.ClientPayload, _unwatch),
}
"""Every command by its name."""
