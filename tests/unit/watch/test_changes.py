"""What a frame is to watchers, and how it is told."""

from __future__ import annotations

import json
from random import Random

import pytest

from synap.frame import ACCOUNTS, FLUSH, MARK, REQUESTS, SET, Cause, Entry
from synap.watch import forms
from synap.watch.changes import Values
from synap.watch.filters import Selector, filter_of
from synap.watch.forms import Form, Manner
from tests.unit.watch.feeds import ALL, FLUSHED, INLINE, batches_of, removal, sets


def changes_of(*entries: Entry, values: Values = INLINE) -> list[dict[str, object]]:
    (batch,) = batches_of(entries)
    return json.loads(forms.change(batch, batch.select(ALL), Manner(Form.LIST, values)))["changes"]


def test_set_is_told_with_its_version_and_deadline() -> None:
    _, second = changes_of(Entry(SET, b"a", b"1"), Entry(SET, b"b", "ü".encode(), 99))
    assert second == {
        "op": "set", "key": "b", "value": "ü", "version": "2-9f2c11aa", "expires_at_ms": 99,
    }  # fmt: skip


def test_value_that_is_no_text_is_told_in_base64() -> None:
    (change,) = changes_of(Entry(SET, b"a", b"\xff\x00"))
    assert (change["value_base64"], "value" in change) == ("/wA=", False)


@pytest.mark.parametrize(
    ("values", "told"),
    [(Values(True, 4), {"value": "1234"}), (Values(True, 3), {"truncated": True}),
     (Values(False, 4), {})],
)  # fmt: skip
def test_long_or_unwanted_value_is_left_out(values: Values, told: dict[str, object]) -> None:
    (change,) = changes_of(Entry(SET, b"a", b"1234"), values=values)
    assert {name: change[name] for name in ("value", "truncated") if name in change} == told


@pytest.mark.parametrize("cause", Cause)
def test_removal_is_told_with_its_cause(cause: Cause) -> None:
    assert changes_of(removal("a", cause)) == [
        {"op": "del", "key": "a", "cause": cause.name.lower()}
    ]


def test_flush_is_for_everybody() -> None:
    (batch,) = batches_of([*sets("a"), FLUSHED, Entry(FLUSH, b"p:")])
    numbers = batch.select(Selector(filter_of(keys=[b"other"])))
    told = json.loads(forms.change(batch, numbers, Manner(Form.LIST, INLINE)))["changes"]
    assert told == [{"op": "flush"}, {"op": "flush", "prefix": "p:"}]


def test_other_spaces_and_marks_are_no_changes() -> None:
    entries = [
        Entry(SET, b"user", b"x", space=ACCOUNTS),
        Entry(SET, b"request", b"x", space=REQUESTS),
        Entry(MARK),
    ]
    (batch,) = batches_of(entries)
    assert batch.changes == []
    assert batch.token == "3-9f2c11aa"


@pytest.mark.parametrize("seed", range(5))
def test_many_changes_are_selected_as_few_are(seed: int) -> None:
    random = Random(seed)
    names = [f"{letter}:{number}" for letter in "abc" for number in range(20)] + ["\0"]
    entries = [*sets(*random.choices(names, k=100)), FLUSHED, removal("a:1"), *sets("b:1")]
    (batch,) = batches_of(entries)
    keys = [None if change.operation == FLUSH else change.key for change in batch.changes]
    for wanted in (
        filter_of([b"a:1", b"c:3", b"none"]), filter_of(prefixes=[b"b:", b"b:1"]),
        filter_of([b"b:1"], [b"a:1"], [b"?:7", b"c:*"]), filter_of(prefixes=[b"b", b"\0"]),
    ):  # fmt: skip
        selector = Selector(wanted, lambda key: key != b"c:3")
        expected = [n for n, key in enumerate(keys) if key is None or selector.accepts(key)]
        assert list(batch.select(selector)) == expected


def test_change_is_told_in_each_form() -> None:
    (batch,) = batches_of(sets("a"))
    numbers = batch.select(ALL)
    body = batch.body(numbers, INLINE)
    line = forms.change(batch, numbers, Manner(Form.LINES, INLINE))
    assert json.loads(line)["event"] == "change"
    assert line.endswith(b"}\n")
    event = forms.change(batch, numbers, Manner(Form.EVENTS, INLINE))
    assert event == b"event: change\nid: 1-9f2c11aa\ndata: {" + body + b"}\n\n"


def test_value_with_line_ends_stays_on_one_line() -> None:
    (batch,) = batches_of([Entry(SET, b"a\nb", b"1\r\n2")])
    assert forms.change(batch, (0,), Manner(Form.EVENTS, INLINE)).count(b"\n") == 4


def test_reset_has_a_browser_forget_where_it_was() -> None:
    assert b"\nid\n" in forms.reset(Form.EVENTS, "diverged", "7-9f2c11aa", None)
    assert json.loads(forms.reset(Form.LINES, "compacted", "7-9f2c11aa", None)) == {
        "event": "reset", "reason": "compacted", "oldest": "7-9f2c11aa", "common": None,
    }  # fmt: skip


def test_entry_has_no_position_to_go_on_from() -> None:
    assert b"id:" not in forms.event("entry", Form.EVENTS, None, key="a")
    assert "position" not in json.loads(forms.event("entry", Form.LINES, None, key="a"))
