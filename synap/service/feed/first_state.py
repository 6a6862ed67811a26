"""The first state of a stream: all of its keys as they are at one place, before the changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from synap.commands.key_spans import KeySpan
from synap.errors import ReadRefused
from synap.place import Place
from synap.service.feed.watch import PART_BYTES, FeedClosed, Hub
from synap.store import RecordWalk
from synap.watch import forms
from synap.watch.changes import value_fields
from synap.watch.forms import Manner
from synap.watch.lane import Group

_WALK_RECORDS = 1000
# Between two signs of life while others walk through the store.
_SILENCE_SECONDS = 10.0


class Stream(Protocol):
    """Whose first state it is; `live_watch` says what each is."""

    hub: Hub
    manner: Manner
    group: Group
    at: Place | None
    is_beat_due: bool

    async def send(self, part: bytes) -> None: ...

    def beat(self) -> bytes: ...


async def tell_keys(watch: Stream, spans: Sequence[KeySpan]) -> None:
    """Tell all keys of one state, and have the watcher be at its place.

    Raises:
        FeedClosed: that took too long, or can't be read here.
    """
    hub = watch.hub
    while not await _acquired(hub.walk_slots, _SILENCE_SECONDS):
        await watch.send(forms.silence(watch.manner.form))
    try:
        await _tell_all(watch, spans)
    except ValueError as error:
        # Its time was over.
        raise FeedClosed("too_slow") from error
    except ReadRefused as error:
        raise FeedClosed("not_ready") from error
    finally:
        hub.walk_slots.release()


async def _tell_all(watch: Stream, spans: Sequence[KeySpan]) -> None:
    hub = watch.hub
    walk, close = hub.begin_walk(spans, watch.group.selector)
    timer = asyncio.get_running_loop().call_later(hub.walk_seconds, close)
    try:
        reigns = hub.node.reigns(walk.end.history)
        while not walk.is_over:
            part = await hub.in_thread(lambda: _entries(walk, reigns.token, watch.manner))
            if part or watch.is_beat_due:
                await watch.send(part or watch.beat())
        watch.at = reigns.place(walk.end.offset)
    finally:
        timer.cancel()
        close()


async def _acquired(semaphore: asyncio.Semaphore, seconds: float) -> bool:
    """Acquire it; return False where it took too long."""
    try:
        await asyncio.wait_for(semaphore.acquire(), seconds)
    except TimeoutError:
        return False
    return True


def _entries(walk: RecordWalk, token: Callable[[int], str], manner: Manner) -> bytes:
    """Return the next keys of a walk as events."""
    # They have no position: a client that was cut here must begin anew.
    return b"".join(
        forms.event(
            "entry", manner.form, None, key=key.decode("utf-8", "backslashreplace"),
            **value_fields(record.value, manner.values),
            version=token(record.version), expires_at_ms=record.expiry_ms or None,
        )
        for key, record in walk.take(_WALK_RECORDS, PART_BYTES)
    )  # fmt: skip
