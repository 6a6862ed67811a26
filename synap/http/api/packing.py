"""Long answers packed by gzip, where the client asks for that.

Only what is long and made anew each time is (lists, exports, metrics, pages); values are sent as
they are, by the short way and by the other. It is done beside the loop.

Source: RFC 9110, sections 8.4 and 12.5.3.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from typing import Any

from falcon.asgi import Response

from synap.http.api.headers import ACCEPT_ENCODING
from synap.http.api.request import Request

# Below this the time costs more than the bytes.
_LEAST_BYTES = 4096
# As fast as it goes: a third of the size of JSON or metrics, at some 100 MB/s.
_LEVEL = 1
_WITH_GZIP_HEADER = 16 + zlib.MAX_WBITS
_ASKED = re.compile(
    rb"(?:^|,)\s*(?:x-)?(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)"
)


class Packing:
    """Falcon's middleware."""

    async def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        """Pack the answer of a resource that says that its answers may be long."""
        if not getattr(resource, "is_long", False):
            return
        resp.append_header("Vary", "Accept-Encoding")
        if not asks(req.raw_headers.get(ACCEPT_ENCODING, b"")):
            return
        if resp.data is not None and len(resp.data) >= _LEAST_BYTES:
            resp.data = await asyncio.to_thread(gzip.compress, resp.data, _LEVEL, mtime=0)
        elif resp.stream is not None and req.method != "HEAD":
            resp.stream = PackedStream(resp.stream)
        else:
            return
        resp.set_header("Content-Encoding", "gzip")


class PackedStream:
    """The parts of an answer, packed as one."""

    def __init__(self, stream: Any) -> None:
        """
        Args:
            stream: Yields bytes; where it has `close`, that is called at the end.
        """
        self._stream = stream
        self._packing = zlib.compressobj(_LEVEL, wbits=_WITH_GZIP_HEADER)
        self._is_over = False

    def __aiter__(self) -> PackedStream:
        return self

    async def __anext__(self) -> bytes:
        """Return the next part that is not empty."""
        while not self._is_over:
            try:
                part = await self._stream.__anext__()
            except StopAsyncIteration:
                self._is_over = True
                return self._packing.flush()
            packed = await asyncio.to_thread(self._packing.compress, part)
            if packed:
                return packed
        raise StopAsyncIteration

    async def close(self) -> None:
        """End the stream."""
        if hasattr(self._stream, "close"):
            await self._stream.close()


def asks(accepted: bytes) -> bool:
    """Say whether the value of Accept-Encoding takes gzip."""
    return _ASKED.search(accepted.lower()) is not None
