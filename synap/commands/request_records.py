"""What is stored of a request that may be sent again; `once` has what such a request is.

Where several clusters have the keys between them, it says which slot its keys are of, and goes
where the slot goes. Pure.
"""

from __future__ import annotations

import msgspec

from synap.shares import Holder

FORM = 1
NO_SLOT = -1


class RequestRecord(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What is stored of a request. Its version is the place of the whole in the log.

    Attributes:
        form: Of this record.
        fingerprint: Tells the request from others.
        holder: For whom it counts.
        replicas: How many replicas its answer waited for.
        has_changed: Whether it changed anything.
        result: As MessagePack; empty where it was too large.
        slot: Of its keys; NO_SLOT where the cluster has all, or there are none.
        was_brought: Whether it was done by another cluster, which had the slot then.
    """

    form: int
    fingerprint: bytes
    holder: Holder
    replicas: int
    has_changed: bool
    result: bytes
    slot: int = NO_SLOT
    was_brought: bool = False

    def encoded(self) -> bytes:
        """Return it as it is stored."""
        return _encode(self)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RequestRecord).decode


def decode_record(value: bytes | memoryview) -> RequestRecord | None:
    """Return what is stored of a request; None where it is none that this program knows."""
    try:
        record = _decode(value)
    except msgspec.DecodeError:
        return None
    return record if record.form == FORM else None
