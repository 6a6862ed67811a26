"""Coroutines started inside a callback: the same promises on every Python."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from synap.http.server.eager_tasks import StepStarter, TaskStarter, make_starter

color: ContextVar[str] = ContextVar("color", default="none")
NO_END = object()


class Run:
    """One coroutine started from a callback, and how it ended."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.error: Any = NO_END
        self.ended = asyncio.Event()

    def end(self, error: BaseException | None) -> None:
        assert self.error is NO_END
        self.error = error
        self.ended.set()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start it now; the caller is a callback of the loop."""
        self.task = make_starter(asyncio.get_running_loop()).start(coroutine, self.end)


def started(coroutine_of: Callable[[Run], Coroutine[Any, Any, None]]) -> Run:
    """Run what `coroutine_of` makes to its end, and return how it went."""

    async def scenario() -> Run:
        run = Run()
        asyncio.get_running_loop().call_soon(lambda: run.start(coroutine_of(run)))
        async with asyncio.timeout(5):
            await run.ended.wait()
        return run

    return asyncio.run(scenario())


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def test_coroutine_that_does_not_wait_ends_without_a_task() -> None:
    async def work(run: Run) -> None:
        return None

    run = started(work)
    assert (run.task, run.error) == (None, None)


@pytest.mark.parametrize(
    "wait",
    [
        lambda: asyncio.sleep(0),
        lambda: asyncio.sleep(0.001),
        lambda: asyncio.gather(asyncio.sleep(0), asyncio.sleep(0)),
        lambda: asyncio.wait_for(asyncio.sleep(0), 1),
        lambda: asyncio.to_thread(int),
    ],
)
def test_coroutine_that_waits_goes_on_in_a_task(wait: Callable[[], Awaitable[Any]]) -> None:
    async def work(run: Run) -> None:
        await wait()
        await wait()
        assert asyncio.current_task() is run.task

    run = started(work)
    assert run.task is not None
    assert run.error is None


@pytest.mark.parametrize("waits", [0, 1])
def test_coroutine_that_raises_reports_its_error(waits: int) -> None:
    async def work(run: Run) -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise ValueError("seen")

    assert repr(started(work).error) == "ValueError('seen')"


def test_first_wait_gets_the_awaited_result() -> None:
    async def work(run: Run) -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 7)
        assert await future == 7

    assert started(work).error is None


def test_first_wait_gets_the_awaited_error() -> None:
    async def work(run: Run) -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, OSError("seen"))
        with pytest.raises(OSError, match="seen"):
            await future

    assert started(work).error is None


def test_timeout_entered_before_the_first_wait_ends_it() -> None:
    async def work(run: Run) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await forever()
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    assert started(work).error is None


def test_timeout_that_is_over_at_once_ends_the_first_wait() -> None:
    async def work(run: Run) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await forever()

    assert started(work).error is None


def test_task_group_entered_before_the_first_wait_ends_with_its_children() -> None:
    async def fail() -> None:
        raise OSError("child")

    async def work(run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await forever()

    error = started(work).error
    assert isinstance(error, ExceptionGroup)
    assert [repr(child) for child in error.exceptions] == ["OSError('child')"]


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_cancelled_task_cancels_what_the_coroutine_waits_on(turns: int) -> None:
    seen: list[str] = []

    async def work(run: Run) -> None:
        child = asyncio.ensure_future(forever())
        try:
            await child
        finally:
            seen.append(f"child cancelled: {child.cancelled()}")

    async def scenario() -> Run:
        run = Run()
        loop = asyncio.get_running_loop()

        def begin() -> None:
            run.start(work(run))
            if turns == 0:
                assert run.task is not None
                run.task.cancel()

        loop.call_soon(begin)
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns:
            assert run.task is not None
            run.task.cancel()
        async with asyncio.timeout(5):
            await run.ended.wait()
        return run

    run = asyncio.run(scenario())
    assert isinstance(run.error, asyncio.CancelledError)
    assert seen == ["child cancelled: True"]


def test_coroutine_may_outlive_a_cancellation() -> None:
    async def work(run: Run) -> None:
        asyncio.get_running_loop().call_soon(lambda: run.task and run.task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await forever()
        await asyncio.sleep(0)

    assert started(work).error is None


def test_cancellation_of_oneself_arrives_at_the_first_wait() -> None:
    async def work(run: Run) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    assert isinstance(started(work).error, asyncio.CancelledError)


def test_context_of_a_coroutine_is_its_own() -> None:
    async def work(run: Run) -> None:
        color.set("red")
        await asyncio.sleep(0)
        assert color.get() == "red"

    async def scenario() -> str:
        run = Run()
        seen: list[str] = []

        def begin() -> None:
            run.start(work(run))
            seen.append(color.get())

        asyncio.get_running_loop().call_soon(begin)
        async with asyncio.timeout(5):
            await run.ended.wait()
        assert run.error is None
        return seen[0]

    assert asyncio.run(scenario()) == "none"


def test_no_task_is_current_behind_a_first_step() -> None:
    seen: list[object] = []

    async def scenario() -> None:
        run = Run()

        def begin() -> None:
            run.start(asyncio.sleep(0))
            seen.append(asyncio.current_task())

        asyncio.get_running_loop().call_soon(begin)
        await run.ended.wait()

    asyncio.run(scenario())
    assert seen == [None]


def test_starter_is_the_one_of_this_python() -> None:
    async def scenario() -> object:
        return make_starter(asyncio.get_running_loop())

    has_eager_tasks = hasattr(asyncio, "eager_task_factory")
    kind = TaskStarter if has_eager_tasks else StepStarter
    assert isinstance(asyncio.run(scenario()), kind)
