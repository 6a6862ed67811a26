"""What the node tells of itself."""

from __future__ import annotations

from typing import Any

import msgspec

from synap.http.api.openapi.route import Parameter, delete, get
from synap.http.api.operations.operation import Context, LongRead, Nothing, Read, as_it_is
from synap.service.node_facts import DEFAULT_SLOW_ENTRIES, SECTIONS


class SectionBody(msgspec.Struct, gc=False):
    """One section of what a node tells, or all."""

    section: str | None = None


class CountBody(msgspec.Struct, gc=False):
    """How many entries of the slow log."""

    count: int = DEFAULT_SLOW_ENTRIES


async def _stats(context: Context, key: bytes, body: Nothing) -> dict[str, Any]:
    facts, end = await context.facts.stats(context.caller)
    context.saw(end)
    return facts


async def _info(context: Context, key: bytes, body: SectionBody) -> dict[str, Any]:
    facts, end = await context.facts.info(context.caller, body.section)
    context.saw(end)
    return facts


async def _clients(context: Context, key: bytes, body: Nothing) -> dict[str, Any]:
    return await context.facts.clients(context.caller)


STATS = LongRead(
    "admin.stats",
    get("/stats", "Tell what the node holds and does", "Stats"),
    Nothing,
    _stats,
    as_it_is,
)
INFO = LongRead(
    "info",
    get(
        "/info", "Tell the same by the names that Redis has", "Info",
        parameters=(Parameter("section", {"enum": [*SECTIONS]}, "This section alone"),),
    ),
    SectionBody,
    _info,
    as_it_is,
)  # fmt: skip
SLOW_LOG = Read(
    "slowlog.get",
    get(
        "/slowlog", "List the slowest requests", "SlowLog", kind="node", statuses=(400,),
        parameters=(
            Parameter(
                "count", {"type": "integer", "default": 128}, "Most entries; below 0 for all"
            ),
        ),
    ),
    CountBody,
    lambda context, key, body: context.facts.slow_log(context.caller, body.count),
    as_it_is,
)  # fmt: skip
SLOW_LOG_RESET = Read(
    "slowlog.reset",
    delete("/slowlog", "Empty the slow log", "Success", kind="node"),
    Nothing,
    lambda context, key, body: context.facts.reset_slow_log(context.caller),
    as_it_is,
)
CLIENTS = LongRead(
    "client.list",
    get("/clients", "List the connections", "Clients", kind="node"),
    Nothing,
    _clients,
    as_it_is,
)
CONFIG = Read(
    "admin.config",
    get("/config", "Tell the configuration in effect, without its secrets", "Config", kind="node"),
    Nothing,
    lambda context, key, body: context.facts.config(context.caller),
    as_it_is,
)
NODE = (STATS, INFO, SLOW_LOG, SLOW_LOG_RESET, CLIENTS, CONFIG)
