"""A master that an engine of elections gives a time: what it takes and tells within it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from synap.commands.strings import Set
from synap.errors import LeaseLost, NoLease, OutcomeUnknown, QuorumTimeout
from synap.shared.board import BoardView, unacknowledged
from synap.writer.lease import FOR_EVER_NS, Lease, boottime_ns
from tests.integration.linked_nodes import eventually
from tests.integration.writers import WritingMaster, following

pytestmark = pytest.mark.usefixtures("run_dir")


class Clock:
    """CLOCK_BOOTTIME, in a test's hands."""

    def __init__(self) -> None:
        self.ns = 1_000

    def __call__(self) -> int:
        return self.ns


def test_master_takes_writes_within_its_lease_alone(tmp_path: Path) -> None:
    async def test() -> None:
        clock = Clock()
        master = WritingMaster(tmp_path / "m", lease=Lease(0, clock))
        async with master.running() as client:
            with pytest.raises(NoLease):
                await client.execute(Set(b"k", b"v"))
            assert master.view().read_only == "no_lease"
            master.writer.grant(2_000, 2_000)
            await client.execute(Set(b"k", b"v"))
            assert (master.view().read_only, master.view().lease_until_ns) == ("", 2_000)
            clock.ns = 2_000
            with pytest.raises(NoLease):
                await client.execute(Set(b"k", b"w"))
            assert master.data_dir.position.offset == 1

    uvloop.run(test())


def test_answer_that_comes_too_late_is_never_sent(tmp_path: Path) -> None:
    """The log's sync took longer than the lease: another master may have answered by then."""

    async def test() -> None:
        clock, failures = Clock(), []
        master = WritingMaster(
            tmp_path / "m", lease=Lease(2_000, clock), on_failure=failures.append
        )
        commit = master.data_dir.commit

        def slow_commit(*arguments: object) -> object:
            clock.ns = 2_000
            return commit(*arguments)

        master.data_dir.commit = slow_commit  # type: ignore[assignment, method-assign]
        async with master.running() as client:
            with pytest.raises(OutcomeUnknown):
                await client.execute(Set(b"k", b"v"))
            assert isinstance(failures[0], LeaseLost)
            assert master.data_dir.position.offset == 1

    uvloop.run(test())


def test_ack_that_comes_too_late_answers_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        clock = Clock()
        master = WritingMaster(tmp_path / "m", lease=Lease(2_000, clock))
        async with master.running() as client:
            write = asyncio.create_task(client.execute(Set(b"k", b"v"), min_replicas=1))
            await eventually(lambda: master.data_dir.position.offset == 1)
            clock.ns = 2_000
            async with following(tmp_path / "r", master):
                with pytest.raises(QuorumTimeout):
                    await write

    uvloop.run(test())


def test_lease_without_end_is_over_at_no_time() -> None:
    clock = Clock()
    clock.ns = 2**63
    assert not Lease(FOR_EVER_NS, clock).is_over()
    assert Lease(0).is_over()


def test_board_shows_the_end_of_the_lease_though_the_owner_hangs() -> None:
    now_ns = boottime_ns()
    assert unacknowledged(BoardView("master", lease_until_ns=now_ns)) == "no_lease"
    assert unacknowledged(BoardView("master", lease_until_ns=now_ns + 10**12)) == ""
    assert unacknowledged(BoardView("master")) == ""
