"""What `synap diff` finds, on nodes of the test's own that change while they are asked."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.cli.diff import Apart, Comparison, Side

Records = dict[bytes, int]
KEYS = st.binary(min_size=1, max_size=4)
STORES = st.dictionaries(KEYS, st.integers(1, 3), max_size=40)


class FakeNode:
    """A node that has records, and changes them by a list of steps, one before each answer."""

    def __init__(self, records: Records, *, offset: int = 1, history: str = "ab") -> None:
        self.records = records
        self.offset = offset
        self.history = history

    def ask(self, url: str, path: str) -> dict[str, Any]:
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        after = decoded(query["after"]) if "after" in query else b""
        until = decoded(query["until"]) if "until" in query else None
        keys = [] if query["space"] != "0" else sorted(self.records)
        found = [key for key in keys if key > after and (until is None or key <= until)]
        shown = found[: int(query["limit"])]
        return {
            "offset": self.offset,
            "history": self.history,
            "records": len(shown),
            "sum": str(sum(hash((key, self.records[key])) for key in shown)),
            "last": base64.urlsafe_b64encode(shown[-1] if shown else b"").decode(),
            "is_whole": shown == found,
        }

    def side(self, name: str) -> Side:
        return Side(name, self.ask)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def compared(left: FakeNode, right: FakeNode) -> list[tuple[int, bytes, str]]:
    return list(Comparison(left.side("left"), right.side("right"), 0.0).differences())


@given(left=STORES, right=STORES)
def test_differences_are_the_keys_whose_records_differ(left: Records, right: Records) -> None:
    found = compared(FakeNode(left), FakeNode(right))
    expected = {key for key in {*left, *right} if left.get(key) != right.get(key)}
    assert {key for _, key, _ in found} == expected
    assert {key for _, key, where in found if where == "left"} == expected - set(left)
    assert {key for _, key, where in found if where == "right"} == expected - set(right)


def test_key_that_differs_on_nodes_at_other_offsets_is_none_of_them() -> None:
    with pytest.raises(Apart, match="offset 2"):
        compared(FakeNode({b"key": 1}, offset=2), FakeNode({b"key": 2}, offset=1))


def test_key_that_differs_on_nodes_of_other_histories_is_none_of_them() -> None:
    with pytest.raises(Apart, match="last reigns differ"):
        compared(FakeNode({b"key": 1}), FakeNode({b"key": 2}, history="cd"))


def test_replica_that_comes_to_the_offset_in_time_differs_in_nothing() -> None:
    master, replica = FakeNode({b"key": 2}, offset=2), FakeNode({b"key": 1}, offset=1)
    asked = 0

    def ask(url: str, path: str) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked > 6:
            replica.records, replica.offset = {b"key": 2}, 2
        return replica.ask(url, path)

    comparison = Comparison(master.side("m"), Side("r", ask), 5.0)
    assert list(comparison.differences()) == []
