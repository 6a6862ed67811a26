"""One look for all reads that wait for the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from synap.service.store_watch import State, StoreWatch

DEADLINE_SECONDS = 10.0


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


def test_offset_wakes_those_alone_who_wait_for_it() -> None:
    async def scenario(store: Store, watch: StoreWatch) -> None:
        await watch.wait(9, 60)  # What was never seen before is another rest.
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
        await watch.wait(9, 60)
        for state in ((1, "another"), (-1, None), (1, "rest")):
            waits = [asyncio.ensure_future(watch.wait(offset, 60)) for offset in (9, None)]
            await looked(store, 1)
            store.state = state
            await asyncio.gather(*waits)

    run(scenario)


def test_time_wakes_who_waits_for_nothing_else() -> None:
    async def scenario(store: Store, watch: StoreWatch) -> None:
        await asyncio.gather(watch.wait(9, 0.01), watch.wait(None, 60))

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
