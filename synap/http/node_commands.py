"""The commands of `/api/v1/command` that tell of the node, as `/stats` and `/info` do.

See `synap.http.command_table`, which has them by their names.
"""

from __future__ import annotations

from synap.http import payloads
from synap.http.calling import Asking


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
