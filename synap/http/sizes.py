"""What a key takes in the store, and the form in which that is told."""

from __future__ import annotations

from synap.commands import NEVER, Record
from synap.store.layout import DEADLINE, RECORD_BYTES

# What LMDB puts before each of its nodes.
_NODE_BYTES = 8
_KIB = 1024


def memory_usage(key: bytes, record: Record) -> dict[str, object]:
    """Return the answer of `/memory/{key}/usage`: the bytes of its entries, without pages' gaps."""
    used = _NODE_BYTES + len(key) + RECORD_BYTES + len(record.value)
    if record.expiry_ms != NEVER:
        used += _NODE_BYTES + DEADLINE.size + len(key)
    return {"key": key.decode(), "bytes": used, "human": human(used)}


def human(size: int) -> str:
    """Return a number of bytes in a unit that leaves 1 or more: `48 B`, `1.5 KiB`, `3.0 MiB`."""
    if size < _KIB:
        return f"{size} B"
    if size < _KIB * _KIB:
        return f"{size / _KIB:.1f} KiB"
    return f"{size / _KIB / _KIB:.1f} MiB"
