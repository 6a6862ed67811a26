"""One look for all reads that wait for the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from synap.service.store_watch import State, StoreWatch

DEADLINE_SECONDS = 10.0
# A tenth of a second, after which those look who wait for something else than an offset.
LOOKS_UNTIL_ALL = 50
# The one that wakes, and one for each turn of the loop until the woken are gathered, at most.
LOOKS_OF_A_WAKE = 6


class Store:
    """Is looked at; counts how often."""

    def __init__(self) -> None:
        self.state: State = (1, "rest")
        self.looks = 0

    def look(self) -> State:
        self.looks += 1
        if self.state[0] < 0:
            raise LookupError
        return self.state


def run(scenario: Callable[[Store, StoreWatch], Awaitable[None]]) -> None:
    async def bounded() -> None:
        store = Store()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await scenario(store, StoreWatch(store.look))

    asyncio.run(bounded())


async def looked(store: Store, times: int) -> None:
    until = store.looks + times
    while store.looks < until:
        await asyncio.sleep(0.001)


async def see_the_rest(store: Store, watch: StoreWatch) -> None:
    """Have it looked at once: what was never seen before is another rest, which wakes all."""
    await watch.wait(9, 1)
    assert store.looks <= LOOKS_OF_A_WAKE


def test_offset_wakes_those_alone_who_wait_for_it() -> None:
    async def scenario(store: Store, watch: StoreWatch) -> None:
        await see_the_rest(store, watch)
        waits = [asyncio.ensure_future(watch.wait(offset, 60)) for offset in (5, 9)]
        await looked(store, 2)
        assert not any(each.done() for each in waits)
        store.state = (7, "rest")
        await waits[0]
        await looked(store, 2)
        assert not waits[1].done()
        waits[1].cancel()

    run(scenario)


def test_other_rest_and_what_can_not_be_looked_at_wake_all() -> None:
    async def scenario(store: Store, watch: StoreWatch) -> None:
        await see_the_rest(store, watch)
        for state in ((1, "another"), (-1, None), (-1, None), (1, "rest")):
            waits = [asyncio.ensure_future(watch.wait(offset, 1)) for offset in (9, None)]
            await looked(store, 1)
            store.state = state
            looks = store.looks
            await asyncio.gather(*waits)
            assert store.looks <= looks + LOOKS_OF_A_WAKE

    run(scenario)


def test_time_wakes_who_waits_for_nothing_else() -> None:
    async def scenario(store: Store, watch: StoreWatch) -> None:
        await see_the_rest(store, watch)
        waits = [asyncio.ensure_future(watch.wait(*of)) for of in ((9, 0.01), (None, 1))]
        await asyncio.wait(waits, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        assert [each.done() for each in waits] == [True, False]
        await waits[1]
        assert LOOKS_UNTIL_ALL <= store.looks <= LOOKS_UNTIL_ALL + LOOKS_OF_A_WAKE

    run(scenario)


def test_many_who_wait_cost_one_look_and_none_where_nobody_does() -> None:
    async def scenario(store: Store, watch: StoreWatch) -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*[watch.wait(9, 0.1) for _ in range(100)])
        seconds = asyncio.get_running_loop().time() - began
        assert store.looks <= seconds / 0.002 + 1
        await asyncio.sleep(0.01)
        looks = store.looks
        await asyncio.sleep(0.02)
        assert store.looks == looks

    run(scenario)
