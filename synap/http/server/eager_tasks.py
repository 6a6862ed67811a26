"""Start a coroutine at once, and make a task of it only where it waits.

Most requests are answered without a wait. Running their coroutine inside the callback that read the
request saves the task, its handle and a turn of the loop: about 40 % of what a GET costs.

On Python 3.12 and later that is `asyncio.Task(eager_start=True)`. Python 3.11 has no such task, so
the first step is sent by hand:

- `FirstStep` stands in for the task during that step, so that `asyncio.timeout()` and `TaskGroup`,
  which ask for the current task, work there too. It passes on to the real task once there is one.
- Where the step ends in a wait, `Remainder` hands the future that it waits on to a new task and
  from then on passes everything through. The task wakes on that future as if it had sent the step.

`asyncio.current_task()` gives two objects before and after the first wait on 3.11; code that
compares them for identity is the one thing that can tell.

Source: "Extending asyncio" of the Python documentation (`_enter_task`, `_leave_task`); PEP 3156.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.tasks import _enter_task as enter_task
from asyncio.tasks import _leave_task as leave_task
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Protocol

# Told of the coroutine's end once: None where it returned, else what it raised.
OnEnd = Callable[[BaseException | None], None]


class Starter(Protocol):
    """Starts coroutines inside the current callback."""

    def start(
        self, coroutine: Coroutine[Any, Any, None], on_end: OnEnd
    ) -> asyncio.Task[None] | None:
        """Run `coroutine` up to its first wait.

        Call it from a callback of the loop, never from inside a task.

        Args:
            coroutine: Not started yet; it runs in a copy of the current context.
            on_end: Called before this returns where the coroutine did not wait.

        Returns:
            The task that goes on with the coroutine, None where it has ended.
        """


class TaskStarter:
    """Starts coroutines as eager tasks (Python 3.12 and later)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def start(
        self, coroutine: Coroutine[Any, Any, None], on_end: OnEnd
    ) -> asyncio.Task[None] | None:
        """Run `coroutine` up to its first wait."""
        task: asyncio.Task[None] = asyncio.Task(coroutine, loop=self._loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
        if task.done():
            on_end(_outcome(task))
            return None
        task.add_done_callback(lambda done: on_end(_outcome(done)))
        return task


def _outcome(task: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


class StepStarter:
    """Starts coroutines by sending their first step (Python 3.11)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stand_in = FirstStep()

    def start(
        self, coroutine: Coroutine[Any, Any, None], on_end: OnEnd
    ) -> asyncio.Task[None] | None:
        """Run `coroutine` up to its first wait."""
        loop, stand_in = self._loop, self._stand_in
        context = copy_context()
        enter_task(loop, stand_in)  # type: ignore[arg-type]
        try:
            awaited = context.run(coroutine.send, None)
        except StopIteration:
            error: BaseException | None = None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as raised:
            error = raised
        else:
            return self._go_on(Remainder(coroutine, awaited), context, on_end)
        finally:
            leave_task(loop, stand_in)  # type: ignore[arg-type]
        on_end(error)
        return None

    def _go_on(self, remainder: Remainder, context: Context, on_end: OnEnd) -> asyncio.Task[None]:
        """Make the task; the stand-in is its own now, and the next coroutine gets another."""
        task: asyncio.Task[None] = self._loop.create_task(remainder, context=context)  # type: ignore[arg-type]
        task.add_done_callback(lambda done: on_end(_outcome(done)))
        self._stand_in.pass_on_to(task)
        self._stand_in = FirstStep()
        return task


class FirstStep:
    """Stands in for the task that a coroutine has not got yet.

    Has what `asyncio.timeout()` and `TaskGroup` use of a task. A cancellation asked for before the
    first wait is kept, and reaches the coroutine at that wait, as a task's would.
    """

    __slots__ = ("_cancels", "_message", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._cancels = 0
        self._message: Any = None

    def pass_on_to(self, task: asyncio.Task[None]) -> None:
        """Let `task` have what was asked of this one, and all that follows."""
        self._task = task
        for _ in range(self._cancels):
            task.cancel(self._message)

    def cancel(self, msg: Any = None) -> bool:
        """Ask for a CancelledError at the next wait."""
        if self._task is not None:
            return self._task.cancel(msg)
        self._cancels += 1
        self._message = msg
        return True

    def cancelling(self) -> int:
        """Return how many cancellations are asked for and not taken back."""
        return self._cancels if self._task is None else self._task.cancelling()

    def uncancel(self) -> int:
        """Take one cancellation back; return how many are left."""
        if self._task is not None:
            return self._task.uncancel()
        self._cancels = max(0, self._cancels - 1)
        return self._cancels

    def done(self) -> bool:
        """Return whether the coroutine has ended."""
        return self._task is not None and self._task.done()

    def get_name(self) -> str:
        """Return the task's name; a first step has none of its own."""
        return "first-step" if self._task is None else self._task.get_name()


class Remainder:
    """What is left of a coroutine that stopped at its first wait.

    The first `send` gives the task the future that the coroutine waits on (None for a bare yield).
    A task that is cancelled before that does what it would have done while it waited: it
    cancels the future first, and throws into the coroutine when that has ended.
    """

    __slots__ = ("_awaited", "_coroutine", "_is_handed_over")

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self._is_handed_over = False

    def send(self, value: Any) -> Any:
        """Go on; a task always sends None."""
        if self._is_handed_over:
            return self._coroutine.send(value)
        return self._hand_over()

    def throw(self, *exception: Any) -> Any:
        """Raise in the coroutine, at its wait."""
        if not self._is_handed_over:
            awaited = self._hand_over()
            if awaited is not None and awaited.cancel():
                return awaited
        return self._coroutine.throw(*exception)

    def close(self) -> None:
        """End the coroutine where it stands."""
        self._coroutine.close()

    def _hand_over(self) -> Any:
        self._is_handed_over = True
        awaited, self._awaited = self._awaited, None
        return awaited


# What asyncio wants to see before it makes a task of something.
Coroutine.register(Remainder)


def make_starter(loop: asyncio.AbstractEventLoop) -> Starter:
    """Return the starter that this Python has."""
    return TaskStarter(loop) if sys.version_info >= (3, 12) else StepStarter(loop)
