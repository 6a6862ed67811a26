"""The JSON files of a data directory, each with a checksum of its own bytes.

The checksum is the object's last member, so that the file stays JSON for whoever reads it; it
covers every byte before that member. A file of a version that wrote none is taken as it is, unless
it has a member that its kind does not know: then its checksum's name may be what was damaged.
"""

from __future__ import annotations

import re
from typing import TypeVar
from zlib import crc32

import msgspec

from synap.position import decode_fields, decode_json, encode_json

Held = TypeVar("Held", bound=msgspec.Struct)

_END = re.compile(rb',\n  "crc32": "([0-9a-f]{8})"\n\}\n *\n?')
# What comes behind the last member, with room for the filling of a file of fixed length.
_LONGEST_END_BYTES = 1024


def sealed(record: msgspec.Struct) -> bytes:
    """Return what a file is to hold of `record`."""
    body = msgspec.json.format(encode_json(record), indent=2).removesuffix(b"\n}")
    return body + b',\n  "crc32": "%08x"\n}\n' % crc32(body)


def unsealed(content: bytes, kind: type[Held]) -> Held:
    """Return the record that a file holds.

    Raises:
        ValueError, msgspec.DecodeError: the file is damaged, or of another kind.
    """
    at = content.rfind(b',\n  "crc32"', max(0, len(content) - _LONGEST_END_BYTES))
    end = _END.fullmatch(content, at) if at >= 0 else None
    if end is None:
        _refuse_unknown(content, kind)
    elif crc32(content[:at]) != int(end[1], 16):
        raise ValueError("its checksum does not match")
    return decode_json(content, kind)


def _refuse_unknown(content: bytes, kind: type[Held]) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    if unknown := decode_fields(content).keys() - known:
        raise ValueError(f"it has no checksum, and {sorted(unknown)} is not known here")
