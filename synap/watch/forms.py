"""The bytes of the feed's events, in each form that a watcher may ask for.

An event is its name, the position after it where it has one, and fields. A line of JSON has all of
them; a Server-Sent Event has the name in `event`, the position in `id`, the rest in `data`. What
has no position must not be gone on from: a client that keeps the last one goes on before it.

Source: the HTML standard, "Server-sent events", https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

import msgspec

from synap.watch.changes import Batch, Values

_encode = msgspec.json.Encoder().encode


class Form(Enum):
    """How events are told.

    Attributes:
        LINES: A JSON object on each line.
        EVENTS: Server-Sent Events.
        LIST: Items of a JSON array, of a long poll.
    """

    LINES = "lines"
    EVENTS = "events"
    LIST = "list"


class Manner:
    """How a watcher is told. Those who are told alike share one, and what is made for it.

    Attributes:
        form: Of the events.
        values: Of the values in them.
    """

    __slots__ = ("form", "values")

    def __init__(self, form: Form, values: Values) -> None:
        self.form = form
        self.values = values


def change(batch: Batch, numbers: tuple[int, ...], manner: Manner) -> bytes:
    """Return the event of a batch, with some of its changes."""
    found = batch.told.get((numbers, manner))
    if found is None:
        found = batch.told[numbers, manner] = _change(batch, numbers, manner)
    return found


def _change(batch: Batch, numbers: tuple[int, ...], manner: Manner) -> bytes:
    body, position = batch.body(numbers, manner.values), batch.token.encode()
    if manner.form is Form.EVENTS:
        return b"event: change\nid: %b\ndata: {%b}\n\n" % (position, body)
    if manner.form is Form.LINES:
        return b'{"event":"change","position":"%b",%b}\n' % (position, body)
    return b'{"position":"%b",%b}' % (position, body)


def event(name: str, form: Form, position: str | None, **fields: object) -> bytes:
    """Return any other event of a stream.

    Args:
        position: Where to go on after it; None where it has none.
    """
    if form is Form.LINES:
        placed = {} if position is None else {"position": position}
        return _encode({"event": name, **placed, **fields}) + b"\n"
    placed_line = b"" if position is None else b"id: %b\n" % position.encode()
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), placed_line, _encode(fields))


def reset(form: Form, reason: str, oldest: str, common: str | None) -> bytes:
    """Return the event that ends a stream which can't go on from where it was.

    A browser's EventSource comes again by itself: the empty id has it come without a position.
    """
    made = event("reset", form, None, reason=reason, oldest=oldest, common=common)
    return made.replace(b"\n", b"\nid\n", 1) if form is Form.EVENTS else made


@lru_cache(maxsize=64)
def progress(form: Form, position: str) -> bytes:
    """Return the event that tells where a stream stands; many stand at the same place."""
    return event("progress", form, position)


def close(form: Form, position: str | None, reason: str, retry_ms: int) -> bytes:
    """Return the event that ends a stream which may go on at another node, or later."""
    made = event("close", form, position, reason=reason, retry_ms=retry_ms)
    return (b"retry: %d\n" % retry_ms + made) if form is Form.EVENTS else made


def silence(form: Form) -> bytes:
    """Return what shows a client that the stream is alive, and means nothing."""
    return b":\n\n" if form is Form.EVENTS else b"\n"
