"""Requests that may be sent again: a command with a key of its client's takes effect once.

With the effect stands a record of the request, in the same frame and in a space of its own, so that
it is as durable as the effect is, and goes wherever that goes: to replicas, into snapshots and
backups. A fail-over that loses the write loses the record too, and the request runs when it comes
again. Whoever sends it again gets the result that the record holds.

What is not in a record changed nothing: a command that failed before it was logged runs again.

Pure: `synap.writer.request_table` bounds the records and removes them when their time is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from synap.commands.commands import Command, Result
from synap.commands.keys import CONDITION_FAILED
from synap.commands.keyspace import COMMAND_BYTES
from synap.commands.records import Record, is_live
from synap.commands.request_records import FORM, NO_SLOT, RequestRecord, decode_record
from synap.commands.strings import SetResult
from synap.commands.transactions import Exec, Executed
from synap.request_errors import IdempotencyKeyReused
from synap.shares import Holder

SCOPE_BYTES = 16
FINGERPRINT_BYTES = 16
MAX_KEY_BYTES = 128
# A result of more bytes is not kept: whoever sends the request again learns that it was done.
MAX_RESULT_BYTES = 64 * 1024
# Between the client's key, which has no such byte, and the number of a batch's write.
_PART = b"\0"

Told = Result | Executed
"""What a record can hold of a result."""


class RequestKey(msgspec.Struct, frozen=True, gc=False):
    """What a client calls a request.

    Attributes:
        key: The client's: 1 to MAX_KEY_BYTES bytes of visible ASCII.
        fingerprint: Tells the request from others; see `fingerprint_of`.
        part: Which of a batch's writes it is, from 0.
        is_conditional: See Once.
    """

    key: bytes
    fingerprint: bytes
    part: int = 0
    is_conditional: bool = False


class Once(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=50):
    """A command that takes effect once; the result is its own, or Replayed.

    Attributes:
        key: That of the request's record; see `record_key`.
        fingerprint: Tells the request from others; see `fingerprint_of`.
        holder: For whom the record counts.
        command: What to do.
        is_conditional: Whether a result that says that nothing was done counts as a failure, which
            no record is kept of: the client is told that its condition did not hold.
    """

    key: bytes
    fingerprint: bytes
    holder: Holder
    command: Command | Exec
    is_conditional: bool = False

    def counted(self, result: Any) -> tuple[int, int]:
        """Return how many keys this wrote and how many it removed, by its result."""
        return (0, 0) if isinstance(result, Replayed) else self.command.counted(result)

    def fails(self, result: object) -> bool:
        """Say whether a result is one that no record is kept of."""
        if not self.is_conditional:
            return False
        return not result.written if isinstance(result, SetResult) else result == CONDITION_FAILED

    @property
    def size(self) -> int:
        """About how many bytes this takes in a message."""
        return COMMAND_BYTES + len(self.key) + self.command.size


class Replayed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """What a request came to that had taken effect before.

    Attributes:
        result: The first's.
        is_whole: Whether that is known; else it was too large to be kept.
    """

    result: Told = None
    is_whole: bool = True


class WithoutResult(msgspec.Struct, frozen=True, gc=False):
    """Stands for a result that was too large to be kept."""


_encode = msgspec.msgpack.Encoder().encode
_decode_result = msgspec.msgpack.Decoder(Told).decode


def record_key(scope: str, key: bytes, part: int = 0) -> bytes:
    """Return where a request's record stands.

    Args:
        scope: Who asks; the keys of one mean nothing to another.
        key: The client's: 1 to MAX_KEY_BYTES bytes of visible ASCII.
        part: Which of a batch's writes it is, from 0.
    """
    scope_digest = blake2b(scope.encode(), digest_size=SCOPE_BYTES).digest()
    return scope_digest + key + (_PART + b"%d" % part if part else b"")


def is_of_request(key: bytes, request: bytes) -> bool:
    """Say whether a record's key is that of a request, or of a part of it.

    Args:
        request: Where the record of its first part stands.
    """
    return key == request or key.startswith(request + _PART)


def shown_key(key: bytes) -> str:
    """Return the client's key in that of a record, with the part of a batch where it is one."""
    text, _, part = key[SCOPE_BYTES:].decode("ascii", "backslashreplace").partition("\0")
    return f"{text} part {part}" if part else text


def fingerprint_of(parts: Iterable[bytes]) -> bytes:
    """Return what tells a request from others: a hash of its parts, each apart from the next."""
    digest = blake2b(digest_size=FINGERPRINT_BYTES)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def encode_result(result: object) -> bytes:
    """Return a result as a record holds it; empty where it is too large."""
    told = _encode(result)
    return told if len(told) <= MAX_RESULT_BYTES else b""


def encode_record(
    once: Once, replicas: int, has_changed: bool, told: bytes, slot: int = NO_SLOT
) -> bytes:
    """Return what is stored of a request; `told` is what `encode_result` made of its result."""
    record = RequestRecord(
        FORM, once.fingerprint, once.holder, replicas, has_changed, told, slot
    )  # fmt: skip
    return record.encoded()


def replayed(record: RequestRecord, version: int) -> Replayed:
    """Return what whoever asks again is told.

    Args:
        record: What is stored of the request.
        version: Of that record.
    """
    if not record.result:
        return Replayed(is_whole=False)
    try:
        told = _decode_result(record.result)
    except msgspec.DecodeError:
        # Another version's: it was done, and that much is known.
        return Replayed(is_whole=False)
    if record.was_brought and isinstance(told, SetResult) and told.version:
        # That of the cluster where it was done means nothing here; this is no key's.
        told = msgspec.structs.replace(told, version=version)
    return Replayed(told)


def record_of(stored: Record | None, once: Once, now_ms: int) -> RequestRecord | None:
    """Return the record of a request that took effect before; None where it is to run.

    Args:
        stored: What stands at the request's key, in time or not.

    Raises:
        IdempotencyKeyReused: another request has the key.
    """
    if stored is None or not is_live(stored, now_ms):
        return None
    record = decode_record(stored.value)
    if record is None or record.fingerprint != once.fingerprint:
        raise IdempotencyKeyReused(
            f"Idempotency-Key {shown_key(once.key)!r} came with another request before; nothing "
            "was changed"
        )
    return record
