"""The commands of `/api/v1/command`: name, payload, and what becomes of it.

Each calls what the REST resources call. `synap.http.api.endpoints.named_command` says what a
command is, and `synap.http.api.endpoints.commands` has the envelopes and the batches around them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from synap.commands.commands import Command, Delete, Expire, Flush, Persist, SetResult
from synap.commands.records import slice_range
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
from synap.http.api.endpoints.named_command import Asking, Calling, Payload, checked
from synap.service.node_api import not_found, now_ms, seconds_left

_QUEUED = {"success": True, "queued": True}
_ABORTED = {"aborted": True, "message": "Transaction aborted: watched keys changed"}


async def _set(asking: Asking, payload: payloads.SetPayload) -> object:
    result = await asking.write(payload.command(now_ms), payload.client_id)
    if isinstance(result, Queued):
        return _QUEUED
    assert isinstance(result, SetResult)
    answer: dict[str, object] = {"success": True}
    if payload.has_condition:
        answer["written"] = result.written
    if payload.get:
        answer["old_value"] = _readable_or_none(result.old)
    return answer


async def _get(asking: Asking, payload: payloads.GetPayload) -> object:
    record, offset = asking.calls.get(asking.caller, checked(payload.key))
    asking.saw(offset)
    if record is None:
        return None
    return byte_list(record.value) if payload.type == "bytes" else readable(record.value)


async def _del(asking: Asking, payload: payloads.DeletePayload) -> object:
    result = await asking.write(payload.command(), payload.client_id)
    if isinstance(result, Queued):
        return _QUEUED
    return {"deleted": result if payload.keys is not None else bool(result)}


async def _exists(asking: Asking, payload: payloads.KeyPayload) -> object:
    return {"exists": asking.look(payload.key) is not None}


def _adding(sign: int) -> Callable[[Asking, payloads.AmountPayload], Awaitable[object]]:
    async def add(asking: Asking, payload: payloads.AmountPayload) -> object:
        result = await asking.write(payload.command(sign), payload.client_id)
        return _QUEUED if isinstance(result, Queued) else {"value": result}

    return add


def _setting_many(*, nx: bool) -> Callable[[Asking, payloads.PairsPayload], Awaitable[object]]:
    async def set_many(asking: Asking, payload: payloads.PairsPayload) -> object:
        return {"success": await asking.write(payload.command(nx=nx))}

    return set_many


async def _mget(asking: Asking, payload: bodies.KeysBody) -> object:
    values, offset = await asking.calls.get_many(asking.caller, payload.encoded())
    asking.saw(offset)
    return {"values": [_parsed(value) for value in values]}


async def _mdel(asking: Asking, payload: bodies.KeysBody) -> object:
    return {"deleted": await asking.write(Delete(payload.encoded()))}


async def _scan(asking: Asking, payload: payloads.ScanPayload) -> object:
    page = await asking.calls.scan(
        asking.caller,
        prefix=payload.prefix.encode(),
        pattern=None if payload.pattern is None else payload.pattern.encode(),
        cursor=payload.place,
        limit=payload.page_keys,
    )
    asking.saw(page.offset)
    return page.shown()


async def _keys(asking: Asking, payload: payloads.PatternPayload) -> object:
    page = await asking.calls.list_keys(asking.caller, payload.pattern.encode())
    asking.saw(page.offset)
    answer: dict[str, object] = {"keys": page.keys, "count": len(page.keys)}
    if page.cursor is not None:
        answer |= {"truncated": True, "cursor": page.cursor}
    return answer


async def _dbsize(asking: Asking, payload: payloads.Nothing) -> object:
    stats = await asking.calls.stats(asking.caller)
    asking.saw(stats.offset)
    return {"size": stats.total_keys}


async def _stats(asking: Asking, payload: payloads.Nothing) -> object:
    stats = await asking.calls.stats(asking.caller)
    asking.saw(stats.offset)
    return stats.shown()


async def _flush(asking: Asking, payload: payloads.Nothing) -> object:
    return {"flushed": await asking.write(Flush())}


async def _expire(asking: Asking, payload: payloads.ExpirePayload) -> object:
    expiry_ms = bodies.expiry_after(payload.ttl, now_ms())
    return {"result": await asking.write(Expire(payload.key.encode(), expiry_ms))}


async def _persist(asking: Asking, payload: payloads.KeyPayload) -> object:
    return {"result": await asking.write(Persist(payload.encoded()))}


async def _ttl(asking: Asking, payload: payloads.KeyPayload) -> object:
    record = asking.look(payload.key)
    if record is None:
        raise not_found(payload.encoded())
    return {"ttl": seconds_left(record)}


async def _append(asking: Asking, payload: payloads.ValuePayload) -> object:
    return {"length": await asking.write(payload.append())}


async def _set_range(asking: Asking, payload: payloads.SetRangePayload) -> object:
    return {"length": await asking.write(payload.command())}


async def _get_range(asking: Asking, payload: payloads.GetRangePayload) -> object:
    record, offset = asking.calls.get(asking.caller, checked(payload.key))
    asking.saw(offset)
    if record is None:
        return None
    return readable(slice_range(record.value, payload.start, payload.end))


async def _strlen(asking: Asking, payload: payloads.KeyPayload) -> object:
    record = asking.look(payload.key)
    return {"length": 0 if record is None else len(record.value)}


async def _get_set(asking: Asking, payload: payloads.ValuePayload) -> object:
    return _readable_or_none(await asking.write(payload.get_set()))


async def _type(asking: Asking, payload: payloads.KeyPayload) -> object:
    return {"key": payload.key, "type": "none" if asking.look(payload.key) is None else "string"}


async def _key_exists(asking: Asking, payload: payloads.KeyPayload) -> object:
    return {"key": payload.key, "exists": asking.look(payload.key) is not None}


async def _random_key(asking: Asking, payload: payloads.Nothing) -> object:
    key, offset = await asking.calls.random_key(asking.caller)
    asking.saw(offset)
    return {"key": key}


def _renaming(*, nx: bool) -> Callable[[Asking, payloads.MovePayload], Awaitable[object]]:
    async def rename(asking: Asking, payload: payloads.MovePayload) -> object:
        return await _move(asking, payload, payload.rename(payload.source.encode(), nx=nx))

    return rename


async def _copy(asking: Asking, payload: payloads.MovePayload) -> object:
    return await _move(asking, payload, payload.copy(payload.source.encode()))


async def _move(asking: Asking, payload: payloads.MovePayload, command: Command) -> object:
    success = await asking.write(command)
    return {"success": success, "source": payload.source, "destination": payload.destination}


async def _multi(asking: Asking, payload: payloads.ClientPayload) -> object:
    return await _transact(asking, Multi(payload.client_id), "Transaction started")


async def _discard(asking: Asking, payload: payloads.ClientPayload) -> object:
    return await _transact(asking, Discard(payload.client_id), "Transaction discarded")


async def _watch(asking: Asking, payload: payloads.WatchPayload) -> object:
    return await _transact(asking, Watch(payload.client_id, payload.encoded()), "Keys watched")


async def _unwatch(asking: Asking, payload: payloads.ClientPayload) -> object:
    return await _transact(asking, Unwatch(payload.client_id), "Keys unwatched")


async def _transact(asking: Asking, command: TransactionCommand, message: str) -> object:
    await asking.transact(command)
    return {"success": True, "message": message}


async def _exec(asking: Asking, payload: payloads.ClientPayload) -> object:
    executed = await asking.transact(Exec(payload.client_id))
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
    payload: type[Payload], act: Callable[[Asking, Payload], Awaitable[object]]
) -> Calling[Payload]:
    return Calling(payload, act, is_write=False)


def _write(
    payload: type[Payload], act: Callable[[Asking, Payload], Awaitable[object]]
) -> Calling[Payload]:
    return Calling(payload, act, is_write=True)


async def memory_usage(asking: Asking, payload: payloads.KeyPayload) -> object:
    """Return about what a key takes up in the store."""
    usage, offset = asking.facts.memory_usage(asking.caller, payload.encoded())
    asking.saw(offset)
    return usage


async def info(asking: Asking, payload: payloads.SectionPayload) -> object:
    """Return the facts by the names that Redis has for them."""
    sections, offset = await asking.facts.info(asking.caller, payload.section)
    asking.saw(offset)
    return sections


async def admin_stats(asking: Asking, payload: payloads.Nothing) -> object:
    """Return the content of `/stats`."""
    facts, offset = await asking.facts.stats(asking.caller)
    asking.saw(offset)
    return facts


async def slowlog_get(asking: Asking, payload: payloads.CountPayload) -> object:
    """Return the newest entries of the slow log."""
    return asking.facts.slow_log(asking.caller, payload.count)


async def slowlog_reset(asking: Asking, payload: payloads.Nothing) -> object:
    """Forget the slow log's entries."""
    return asking.facts.reset_slow_log(asking.caller)


async def client_list(asking: Asking, payload: payloads.Nothing) -> object:
    """Return the connections to the node."""
    return await asking.facts.clients(asking.caller)


COMMANDS: dict[str, Calling[Any]] = {
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
