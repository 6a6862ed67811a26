"""The lifespan protocol: starts, stops, and applications that know nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from synap.http.server.lifespan import Lifespan, StartupFailed


class App:
    """Takes lifespan events and answers them with the messages that it is given."""

    def __init__(self, *answers: str) -> None:
        self.events: list[str] = []
        self._answers = answers

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        scope["state"]["key"] = "value"
        for answer in self._answers:
            self.events.append((await receive())["type"])
            await send({"type": answer, "message": "told to fail"})


async def ignorant(scope: dict[str, Any], receive: Any, send: Any) -> None:
    raise AssertionError("only http")


def run(app: Any, scenario: Callable[[Lifespan], Awaitable[None]], **options: bool) -> Lifespan:
    async def whole() -> Lifespan:
        lifespan = Lifespan(app, **options)
        async with asyncio.timeout(5):
            await scenario(lifespan)
        return lifespan

    return asyncio.run(whole())


async def start_and_stop(lifespan: Lifespan) -> None:
    await lifespan.startup()
    await lifespan.shutdown()


def test_application_is_told_of_start_and_stop() -> None:
    app = App("lifespan.startup.complete", "lifespan.shutdown.complete")
    lifespan = run(app, start_and_stop)
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]
    assert lifespan.state == {"key": "value"}


def test_startup_that_fails_tells_why() -> None:
    with pytest.raises(StartupFailed, match="told to fail"):
        run(App("lifespan.startup.failed"), Lifespan.startup)


def test_application_without_lifespan_serves_all_the_same() -> None:
    assert run(ignorant, start_and_stop).state == {}


def test_application_without_lifespan_can_not_start_where_it_is_required() -> None:
    with pytest.raises(StartupFailed, match="takes no lifespan"):
        run(ignorant, Lifespan.startup, is_required=True)


@pytest.mark.parametrize("answers", [("lifespan.shutdown.failed",), ()])
def test_shutdown_ends_however_the_application_ends(answers: tuple[str, ...]) -> None:
    app = App("lifespan.startup.complete", *answers)
    run(app, start_and_stop)
    assert app.events[0] == "lifespan.startup"
