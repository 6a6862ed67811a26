"""`Idempotency-Key`: what a client calls a request, so that it can be sent again.

What tells one request from another is what it asks for, not the bytes that ask: method, path,
command, the fields of its body with their defaults, and the conditions in its headers. A deadline
counts as it was given, so that a `ttl` is the same one when the request comes again.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from synap.commands.once import MAX_KEY_BYTES, RequestKey, fingerprint_of
from synap.commands.values import stored_bytes
from synap.http.api.headers import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, HeaderName
from synap.request_errors import InvalidRequest

REPLAYED = "Idempotent-Replayed"
TRUE = "true"
# What a request that was done before is told where what it came to was too much to be kept.
WITHOUT_RESULT = {"success": True, "replayed_without_result": True}

_VISIBLE = bytes(range(0x21, 0x7F))
# What MessagePack has a form for.
_LEAST, _MOST = -(2**63), 2**64 - 1
_encode = msgspec.msgpack.Encoder().encode


def request_key(
    headers: Mapping[HeaderName, bytes], parts: Iterable[bytes], *, is_conditional: bool = False
) -> RequestKey | None:
    """Return what the client calls a request; None where it has no name.

    Args:
        headers: The request's.
        parts: What it asks for; see `described`.
        is_conditional: Whether its result may say that a condition in its headers did not hold.

    Raises:
        InvalidRequest: the header is no key.
    """
    given = headers.get(IDEMPOTENCY_KEY)
    if given is None:
        return None
    conditions = (headers.get(IF_MATCH, b""), headers.get(IF_NONE_MATCH, b""))
    return RequestKey(
        checked_key(given), fingerprint_of((*conditions, *parts)), is_conditional=is_conditional
    )


def checked_key(given: bytes) -> bytes:
    """Return the key that a header, or a path, gives, without quotes around it.

    Raises:
        InvalidRequest: it is none.
    """
    key = given.strip(b" \t")
    if len(key) > 1 and key[:1] == key[-1:] == b'"':
        key = key[1:-1]
    if not 0 < len(key) <= MAX_KEY_BYTES or key.translate(None, _VISIBLE):
        raise InvalidRequest(
            f"header Idempotency-Key must come once and have 1 to {MAX_KEY_BYTES} characters of "
            "visible ASCII, without blanks"
        )
    return key


def described(name: str, key: bytes, body: object) -> tuple[bytes, ...]:
    """Return the parts of what is asked for: of what name, for which key, and with what."""
    return name.encode(), key, _encode(_plain(body))


def _plain(value: Any) -> Any:
    """Return a body's fields, in their order, with JSON values as they would be stored.

    Fields at the end that are not given are left out: a pair of `mset` is the same as an object and
    as an array, and a field that a later version adds makes no other request of an older one.
    """
    if isinstance(value, msgspec.Raw):
        return stored_bytes(value) if value else b""
    if value is msgspec.UNSET:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, msgspec.Struct):
        fields = [_plain(getattr(value, name)) for name in value.__struct_fields__]
        while fields and fields[-1] is None:
            fields.pop()
        return fields
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        # No field takes it, which is for the field to say.
        return str(value)
    return value
