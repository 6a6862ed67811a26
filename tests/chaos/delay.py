"""A TCP relay that has all bytes be late: stands for a far site where `tc netem` is not to be had.

It delays what is sent, not the packets: connections are made at once, and nothing gets lost. Runs
as a process of its own, `python -m tests.chaos.delay MS LISTEN:PORT=HOST:PORT ...`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import TracebackType

from synap.addresses import split_address
from tests.support import eventually

_PIECE_BYTES = 256 * 1024
_MOST_PIECES = 10_000


class Delay:
    """The process; a context manager."""

    def __init__(self, milliseconds: int, ways: dict[str, str]) -> None:
        """
        Args:
            milliseconds: Each way.
            ways: Where to listen, and where that leads.
        """
        self._arguments = [str(milliseconds), *(f"{here}={to}" for here, to in ways.items())]
        self._ways = ways

    def __enter__(self) -> Delay:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.delay", *self._arguments], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        eventually(lambda: self._process.stdout.readline() == b"ready\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.kill()
        # Waits, and closes what it wrote to.
        self._process.communicate(timeout=10)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass bytes on, each piece so much later, in their order."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_PIECES)

    async def read() -> None:
        while piece := await reader.read(_PIECE_BYTES):
            await pieces.put((loop.time() + seconds, piece))
        await pieces.put((loop.time() + seconds, b""))

    reading = asyncio.create_task(read())
    try:
        while True:
            at, piece = await pieces.get()
            await asyncio.sleep(at - loop.time())
            if not piece:
                return
            writer.write(piece)
            await writer.drain()
    except OSError:
        return
    finally:
        reading.cancel()
        writer.close()


async def serve(milliseconds: int, ways: list[str]) -> None:
    """Listen, until the process is killed."""
    seconds = milliseconds / 1000

    def served(host: str, port: int):
        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there = await asyncio.open_connection(host, port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(carry(reader, there[1], seconds), carry(there[0], writer, seconds))

        return connect

    for way in ways:
        here, _, to = way.partition("=")
        await asyncio.start_server(served(*split_address(to)), *split_address(here))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
