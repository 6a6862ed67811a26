"""Bodies that come packed."""

import asyncio
import gzip

import falcon
import pytest

from synap.http.api.content_coding import Unpacker, check_coding
from synap.request_errors import InvalidRequest, ShareTaken

LIMIT = 100_000


class Owner:
    """Holds a body."""


def unpack(data: bytes, coding: bytes = b"gzip", limit: int = LIMIT) -> bytes:
    return asyncio.run(Unpacker(LIMIT).unpacked(Owner(), data, coding, limit))


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b" GZIP "])
@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_unpacked_of_gzip_is_what_was_packed(coding: bytes, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    check_coding(coding)
    assert unpack(gzip.compress(data), coding) == data


def test_unpacked_stops_at_the_limit_whatever_follows() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(falcon.HTTPContentTooLarge):
        unpack(bomb)


NO_MEMBERS = {
    "nothing": b"",
    "plain": b"plain",
    "cut": gzip.compress(b"x" * 999)[:-9],
    "more behind": gzip.compress(b"x") + b"x",
    "two": gzip.compress(b"a") + gzip.compress(b"b"),
}


@pytest.mark.parametrize("data", NO_MEMBERS.values(), ids=NO_MEMBERS)
def test_unpacked_of_anything_but_one_whole_member_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        unpack(data)


@pytest.mark.parametrize("coding", [b"br", b"deflate", b"gzip, gzip", b""])
def test_unknown_coding_is_refused_with_the_one_that_is_known(coding: bytes) -> None:
    with pytest.raises(falcon.HTTPUnsupportedMediaType) as caught:
        check_coding(coding)
    assert caught.value.headers == {"Accept-Encoding": "gzip"}


def test_unpacked_bodies_that_are_held_are_bounded_together() -> None:
    async def scenario() -> None:
        unpacker, body = Unpacker(LIMIT), gzip.compress(bytes(60_000))
        first, second = Owner(), Owner()
        await unpacker.unpacked(first, body, b"gzip", LIMIT)
        with pytest.raises(ShareTaken):
            await unpacker.unpacked(second, body, b"gzip", LIMIT)
        del first
        await unpacker.unpacked(second, body, b"gzip", LIMIT)

    asyncio.run(scenario())


def test_unpacked_body_above_the_bound_is_let_in_alone() -> None:
    body = gzip.compress(bytes(LIMIT))
    assert len(asyncio.run(Unpacker(1).unpacked(Owner(), body, b"gzip", LIMIT))) == LIMIT
