"""All keys: lists of them, their number, and their end."""

from __future__ import annotations

import msgspec

from synap.commands.keys import Flush
from synap.http.api.openapi.answer_schemas import TEXT
from synap.http.api.openapi.route import Parameter, get
from synap.http.api.operations.operation import Context, LongRead, Nothing, Write, named
from synap.service.wide_reads import KeyStats, Page

_DEFAULT_PAGE_KEYS = 100
# What clients send as a cursor before they have one.
_NO_CURSOR = (None, 0, "", "0")


class ScanBody(msgspec.Struct, gc=False):
    """`scan`."""

    prefix: str = ""
    pattern: str | None = None
    cursor: str | int | None = None
    limit: int | None = None
    delimiter: str | None = None

    @property
    def page_keys(self) -> int:
        """How many keys are asked for."""
        return _DEFAULT_PAGE_KEYS if self.limit is None else self.limit

    @property
    def place(self) -> str | None:
        """The cursor; None for the first page."""
        return str(self.cursor) if self.cursor else None


class ScanPayload(ScanBody, gc=False):
    """`kv.scan`, in the words of Redis, too."""

    count: int | None = None

    @property
    def page_keys(self) -> int:
        limit = self.count if self.limit is None else self.limit
        return _DEFAULT_PAGE_KEYS if limit is None else limit

    @property
    def place(self) -> str | None:
        return None if self.cursor in _NO_CURSOR else str(self.cursor)


class PatternBody(msgspec.Struct, gc=False):
    """`keys`."""

    pattern: str = "*"


async def _scan(context: Context, key: bytes, body: ScanBody) -> Page:
    page = await context.api.scan(
        context.caller,
        prefix=body.prefix.encode(),
        pattern=None if body.pattern is None else body.pattern.encode(),
        cursor=body.place,
        limit=body.page_keys,
        delimiter=None if body.delimiter is None else body.delimiter.encode(),
    )
    context.saw(page.end)
    return page


async def _list(context: Context, key: bytes, body: PatternBody) -> Page:
    page = await context.api.list_keys(context.caller, body.pattern.encode())
    context.saw(page.end)
    return page


def _listed(key: bytes, body: PatternBody, page: Page) -> object:
    answer: dict[str, object] = {"keys": page.keys, "count": len(page.keys)}
    if page.cursor is not None:
        answer |= {"truncated": True, "cursor": page.cursor}
    return answer


async def _stats(context: Context, key: bytes, body: Nothing) -> KeyStats:
    stats = await context.api.stats(context.caller)
    context.saw(stats.end)
    return stats


_SCAN = (
    Parameter("prefix", TEXT, "What the keys begin with"),
    Parameter("pattern", TEXT, "Glob: `* ? [a-z] [^a] \\`"),
    Parameter("cursor", TEXT, "From the page before"),
    Parameter("limit", {"type": "integer", "minimum": 1, "default": 100}, "Most keys in the page"),
    Parameter(
        "delimiter",
        {"type": "string", "minLength": 1},
        "One level of a tree: keys that have it after the prefix are told as `folders`",
    ),
)

KEYSPACE = (
    LongRead(
        "kv.scan",
        get("/kv/scan", "List keys, page by page", "Page", parameters=_SCAN),
        ScanBody,
        _scan,
        lambda key, body, page: page.shown(),
        payload=ScanPayload,
    ),
    LongRead(
        "kv.stats",
        get("/kv/stats", "Count keys, bytes and operations", "KeyStats"),
        Nothing,
        _stats,
        lambda key, body, stats: stats.shown(),
    ),
    LongRead("kv.keys", None, PatternBody, _list, _listed),
    LongRead(
        "kv.dbsize", None, Nothing, _stats, lambda key, body, stats: {"size": stats.total_keys}
    ),
    Write("kv.flushdb kv.flushall", None, Nothing, lambda key, body: Flush(), named("flushed")),
)
