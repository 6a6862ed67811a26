"""The worker's end of the local channel against a real UNIX socket server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from synap.commands.strings import Increment, Set, SetResult
from synap.errors import OutcomeUnknown, WriterUnavailable
from synap.ipc.messages import Answer, Decoder, Request, encode, failure, naming_reign
from synap.ipc.writer_client import MAX_WAITING, WriterClient
from synap.place import LogEnd
from synap.request_errors import InvalidValue

SET = Set(b"k", b"v")
Handler = Callable[[list[Request], asyncio.StreamWriter], Awaitable[None]]


async def _answer_all(requests: list[Request], writer: asyncio.StreamWriter) -> None:
    writer.write(encode([Answer(r.id, r.id, SetResult(True, r.id)) for r in requests]))


async def _hold(requests: list[Request], writer: asyncio.StreamWriter) -> None:
    """Take requests and never answer."""


async def _hang_up(requests: list[Request], writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@asynccontextmanager
async def owner(path: Path, handler: Handler) -> AsyncIterator[list[list[Request]]]:
    """Serve the channel by `handler`; yields the messages that came in."""
    messages: list[list[Request]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder(Request)
        while data := await reader.read(65536):
            requests = decoder.feed(data)
            messages.append(requests)
            await handler(requests, writer)
        writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield messages
    finally:
        server.close()


@asynccontextmanager
async def client(path: Path, timeout_seconds: float = 5.0) -> AsyncIterator[WriterClient]:
    client = WriterClient(path, timeout_seconds)
    client.start()
    try:
        yield client
    finally:
        client.close()


def test_execute_writes_of_one_turn_travel_as_one_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with owner(path, _answer_all) as messages, client(path) as writes:
            done = await asyncio.gather(*(writes.execute(SET) for _ in range(50)))
            assert [d.offset for d in done] == list(range(1, 51))
            assert sum(map(len, messages)) == 50
            assert len(messages) == 1

    uvloop.run(scenario())


def test_write_is_of_the_reign_that_the_owner_named_last(tmp_path: Path) -> None:
    first, second = bytes(range(16)), bytes(range(1, 17))

    async def answer(requests: list[Request], writer: asyncio.StreamWriter) -> None:
        told = [naming_reign(first), Answer(requests[0].id, 7)]
        told += [naming_reign(second), *[Answer(each.id, 8) for each in requests[1:]]]
        writer.write(encode(told))

    async def scenario() -> None:
        async with owner(tmp_path / "s", answer), client(tmp_path / "s") as writes:
            ends = [done.end for done in await asyncio.gather(*map(writes.execute, (SET, SET)))]
            assert ends == [LogEnd(7, first), LogEnd(8, second)]

    uvloop.run(scenario())


def test_execute_error_is_raised_as_its_class(tmp_path: Path) -> None:
    async def refuse(requests: list[Request], writer: asyncio.StreamWriter) -> None:
        writer.write(encode([failure(r.id, 0, InvalidValue("no number")) for r in requests]))

    async def scenario() -> None:
        path = tmp_path / "s"
        async with owner(path, refuse), client(path) as writes:
            with pytest.raises(InvalidValue, match="no number"):
                await writes.execute(Increment(b"k", 1))

    uvloop.run(scenario())


def test_execute_no_writer_is_unavailable_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with client(tmp_path / "none", 0.2) as writes:
            with pytest.raises(WriterUnavailable):
                await asyncio.wait_for(writes.execute(SET), 5)

    uvloop.run(scenario())


def test_execute_silent_writer_is_outcome_unknown(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with owner(path, _hold), client(path, 0.2) as writes:
            with pytest.raises(OutcomeUnknown):
                await asyncio.wait_for(writes.execute(SET), 5)

    uvloop.run(scenario())


def test_execute_writer_hangs_up_is_outcome_unknown_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with owner(path, _hang_up), client(path, 60) as writes:
            with pytest.raises(OutcomeUnknown):
                await asyncio.wait_for(writes.execute(SET), 5)

    uvloop.run(scenario())


def test_execute_waits_for_a_writer_that_comes_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with client(path, 10) as writes:
            waiting = [asyncio.ensure_future(writes.execute(SET)) for _ in range(3)]
            await asyncio.sleep(0)
            async with owner(path, _answer_all):
                done = await asyncio.wait_for(asyncio.gather(*waiting), 9)
                assert [d.offset for d in done] == [1, 2, 3]

    uvloop.run(scenario())


def test_execute_reconnects_after_the_writer_came_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with client(path, 10) as writes:
            async with owner(path, _hang_up):
                with pytest.raises(OutcomeUnknown):
                    await writes.execute(SET)
            async with owner(path, _answer_all):
                assert (await asyncio.wait_for(writes.execute(SET), 9)).offset > 0

    uvloop.run(scenario())


def test_execute_abandoned_write_does_not_disturb_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with owner(path, _answer_all), client(path) as writes:
            first = asyncio.ensure_future(writes.execute(SET))
            second = asyncio.ensure_future(writes.execute(SET))
            await asyncio.sleep(0)
            first.cancel()
            assert (await second).offset == 2
            with pytest.raises(asyncio.CancelledError):
                await first

    uvloop.run(scenario())


def test_execute_beyond_the_bound_is_refused_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with client(tmp_path / "none", 60) as writes:
            waiting = [asyncio.ensure_future(writes.execute(SET)) for _ in range(MAX_WAITING)]
            await asyncio.sleep(0)
            with pytest.raises(WriterUnavailable, match="are waiting"):
                await writes.execute(SET)
            writes.close()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(outcome, WriterUnavailable) for outcome in outcomes)

    uvloop.run(scenario())


def test_execute_large_values_are_cut_into_messages(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        async with owner(path, _answer_all) as messages, client(path) as writes:
            big = Set(b"k", bytes(600_000))
            done = await asyncio.gather(*(writes.execute(big) for _ in range(8)))
            assert [d.offset for d in done] == list(range(1, 9))
            assert sum(map(len, messages)) == 8

    uvloop.run(scenario())
