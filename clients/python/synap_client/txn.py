"""The parts of a transaction: conditions, and what is to be done.

client.txn(
    [txn.absent("lock")],
    then=[txn.set("lock", "me", ttl=30), txn.incr("fence")],
    otherwise=[txn.get("lock")],
)
"""

from __future__ import annotations

from typing import Any

from synap_client.commands import Json

Part = dict[str, Any]


def exists(key: str) -> Part:
    """Holds where the key exists."""
    return {"key": key, "exists": True}


def absent(key: str) -> Part:
    """Holds where there is no such key."""
    return {"key": key, "exists": False}


def has_version(key: str, version: str) -> Part:
    """Holds where the key's version is this one."""
    return {"key": key, "version": version}


def has_value(key: str, value: Json) -> Part:
    """Holds where the key has this value, as `set` would store it."""
    return {"key": key, "value": value}


def set(key: str, value: Json, ttl: int | None = None) -> Part:
    """Write a key, for `ttl` seconds or for ever; its result has the `version`."""
    return {"set": {"key": key, "value": value, **({} if ttl is None else {"ttl": ttl})}}


def delete(key: str) -> Part:
    """Remove a key; its result is `deleted`, 1 or 0."""
    return {"del": {"key": key}}


def incr(key: str, amount: int = 1) -> Part:
    """Add to a key; its result is the `value`."""
    return {"incr": {"key": key, "amount": amount}}


def get(key: str) -> Part:
    """Read a key as the conditions saw it; its result has `value` and `version`."""
    return {"get": {"key": key}}
