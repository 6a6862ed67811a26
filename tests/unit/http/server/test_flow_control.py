"""Which side of a connection waits for the other."""

from __future__ import annotations

import asyncio

import pytest

from synap.http.server.flow_control import BODY_BUFFER_BYTES, MAX_PIPELINED, FlowControl
from tests.unit.http.server.memory_transport import run


class Transport(asyncio.Transport):
    """Counts how often reading was paused and begun again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


@pytest.mark.parametrize(
    ("is_writing_paused", "waiting", "buffered_bytes", "is_full"),
    [
        (False, MAX_PIPELINED - 1, BODY_BUFFER_BYTES - 1, False),
        (False, MAX_PIPELINED, 0, True),
        (False, 0, BODY_BUFFER_BYTES, True),
        (True, 0, 0, False),
        (True, 1, 0, True),
    ],
)
def test_input_has_no_place_where_enough_waits(
    is_writing_paused: bool, waiting: int, buffered_bytes: int, is_full: bool
) -> None:
    flow = FlowControl(Transport())
    if is_writing_paused:
        flow.pause_writing()
    assert flow.is_full(waiting, buffered_bytes) is is_full


def test_transport_is_told_of_a_change_only() -> None:
    transport = Transport()
    flow = FlowControl(transport)
    for call in (flow.resume_reading, flow.pause_reading, flow.pause_reading, flow.resume_reading):
        call()
    assert transport.calls == ["pause", "resume"]


def test_drained_waits_for_the_client_and_for_nothing_else() -> None:
    async def scenario() -> None:
        flow = FlowControl(Transport())
        await asyncio.wait_for(flow.drained(), 5)
        flow.pause_writing()
        waiting = asyncio.create_task(flow.drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        flow.resume_writing()
        await asyncio.wait_for(waiting, 5)

    run(scenario)
