"""What each subscriber of the stream costs a master's CPU.

`python -m ops.scaling.fanout [FILE.svg]` measures it.

The product's own sockets publish frames of one SET each to so many subscribers, which are sockets
of another process, at a steady rate at which all frames arrive: 5,000/s, and half as many again
where some do not. Counted is the CPU time of the publishing process, ZeroMQ's thread included, for
each frame.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import zmq

from ops.bench.chart import Points, line_chart
from synap.frame import SET, Entry, Frame, encode_frame
from synap.position import NO_HISTORY, START
from synap.replication.rules.messages import Published, encode
from synap.replication.transport.curve import Keys, keys_of_secret
from synap.replication.transport.sockets import Sockets

SUBSCRIBERS = (1, 3, 10, 30, 100)
VALUE_BYTES = 200
_RATE = 5000
_LEAST_RATE = 100
_ENOUGH = 0.995
_SECONDS = 2.0
_TURN_SECONDS = 0.005
_START_SECONDS = 30.0
_BUFFER_BYTES = 256 * 1024
_SECRET = "what is measured is no secret, of course"
_ADDRESS = "127.0.0.1:0"


def main() -> None:
    """Measure, print a table, and write the picture where a file is named."""
    lines: dict[str, Points] = {}
    for name, keys in (("plain", None), ("CURVE", keys_of_secret(_SECRET))):
        idle_us, _ = asyncio.run(_measure(0, keys, _RATE))
        points = []
        print(f"{name}: none {idle_us:.1f} µs a frame")
        for subscribers in SUBSCRIBERS:
            rate, reached = _RATE * 2, 0.0
            while reached < _ENOUGH and rate > _LEAST_RATE:
                rate //= 2
                cost_us, reached = asyncio.run(_measure(subscribers, keys, rate))
            each = (cost_us - idle_us) / subscribers
            print(
                f"{name}: {subscribers:3} {cost_us:6.1f} µs a frame, {each:.2f} for each, at "
                f"{rate}/s; {reached:.1%} of the frames arrived",
                flush=True,
            )
            points.append((float(subscribers), cost_us))
        lines[name] = points
    if len(sys.argv) > 1:
        title = f"CPU of a master for each frame of {VALUE_BYTES} bytes, in µs"
        Path(sys.argv[1]).write_text(line_chart(title, "subscribers", lines))


async def _measure(subscribers: int, keys: Keys | None, rate: int) -> tuple[float, float]:
    """Return the CPU time of a frame in µs, and the share of frames that arrived."""
    heard = 0

    def hear(parts: list[bytes], _: str) -> None:
        nonlocal heard
        heard += parts[0] == b"\x01"

    sockets = Sockets(_BUFFER_BYTES, keys)
    stream = sockets.bind_stream(_ADDRESS, 30_000, hear)
    sockets.keep_doors()
    command = [sys.executable, "-m", __spec__.name, "subscribe"] if __spec__ else []
    child = subprocess.Popen(
        [*command, stream.address, str(subscribers), "" if keys is None else "curve"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_SECONDS
        while heard < subscribers:
            assert time.monotonic() < deadline, f"{heard} of {subscribers} came"
            await asyncio.sleep(0.05)
        frames = _frames(int(rate * _SECONDS))
        began, began_cpu = time.monotonic(), time.process_time()
        sent = 0
        while sent < len(frames):
            due = min(len(frames), int((time.monotonic() - began) * rate))
            for frame in frames[sent:due]:
                stream.send(encode(Published(NO_HISTORY), frame.encoded))
            sent = max(sent, due)
            await asyncio.sleep(_TURN_SECONDS)
        await asyncio.sleep(1.0)
        cpu = time.process_time() - began_cpu
        told, _ = await asyncio.to_thread(child.communicate, b"\n")
        arrived = sum(json.loads(told)) if subscribers else 0
    finally:
        child.kill()
        sockets.close()
    return cpu / sent * 1e6, arrived / (sent * max(subscribers, 1))


def _frames(count: int) -> list[Frame]:
    frames, position = [], START
    for number in range(count):
        entries = [Entry(SET, b"key:%06d" % number, bytes(VALUE_BYTES))]
        frames.append(encode_frame(entries, previous=position, epoch=1, time_ms=1))
        position = frames[-1].position
    return frames


def subscribe(address: str, count: int, keys: Keys | None) -> None:
    """Be so many subscribers until a line comes in; print how many frames each had."""
    context = zmq.Context()
    poller = zmq.Poller()
    had: dict[object, int] = {}
    for _ in range(count):
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        if keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, keys.servers[0])
            socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.connect(f"tcp://{address}")
        poller.register(socket, zmq.POLLIN)
        had[socket] = 0
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        for ready, _ in poller.poll():
            if ready == sys.stdin.fileno():
                print(json.dumps(list(had.values())), flush=True)
                context.destroy(linger=0)
                return
            while True:
                try:
                    ready.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                had[ready] += 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["subscribe"]:
        given = keys_of_secret(_SECRET) if sys.argv[4] else None
        subscribe(sys.argv[2], int(sys.argv[3]), given)
    else:
        main()
