"""Answers that are packed where the client asks for it."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from synap.http.api.packing import PackedStream, asks


@pytest.mark.parametrize(
    ("accepted", "is_asked"),
    [
        (b"gzip", True), (b"deflate, gzip, br", True), (b"GZIP;q=0.5", True), (b"*", True),
        (b"gzip; q=1.0, identity", True), (b"x-gzip", True), (b"", False), (b"identity", False),
        (b"gzip;q=0", False), (b"gzip;q=0.0, br", False), (b"br, gzipped", False),
        (b"*;q=0", False),
    ],
)  # fmt: skip
def test_gzip_is_sent_to_those_who_take_it(accepted: bytes, is_asked: bool) -> None:
    assert asks(accepted) is is_asked


def test_stream_is_packed_as_one_and_closed() -> None:
    class Parts:
        closed = 0

        async def parts(self) -> AsyncIterator[bytes]:
            for number in range(50):
                yield b"%d " % number * 500

        def __init__(self) -> None:
            self._parts = self.parts()

        async def __anext__(self) -> bytes:
            return await self._parts.__anext__()

        async def close(self) -> None:
            self.closed += 1

    async def scenario() -> tuple[bytes, int]:
        parts = Parts()
        stream = PackedStream(parts)
        data = b"".join([part async for part in stream])
        await stream.close()
        return data, parts.closed

    data, closed = asyncio.run(scenario())
    assert gzip.decompress(data) == b"".join(b"%d " % number * 500 for number in range(50))
    assert closed == 1
