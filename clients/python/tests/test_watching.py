"""How a watcher goes on."""

from __future__ import annotations

import json

import pytest
from synap_client.errors import SynapClientError, WatchReset
from synap_client.watching import (
    Begin,
    Change,
    Entry,
    Flushed,
    Follower,
    KeyDeleted,
    KeySet,
    Progress,
    Synced,
    Watched,
)

INITIAL = ("include", "initial")


def follower(start: str = "", *, initial: bool = False) -> Follower:
    return Follower(Watched(prefixes=["a:"]), start, has_initial=initial)


def line(event: str, **fields: object) -> str:
    return json.dumps({"event": event, **fields})


def test_what_is_watched_is_asked_for() -> None:
    watched = Watched(["p"], ["k1", "k2"], ["*x"], has_values=False, min_replicas=2)
    new = Follower(watched, "", has_initial=False)
    params = [("prefix", "p"), ("key", "k1"), ("key", "k2"), ("pattern", "*x"), ("values", "none")]
    assert new.params == params
    assert new.headers["X-Synap-Min-Replicas"] == "2"


def test_change_moves_the_position() -> None:
    watcher = follower("1-0123abcd")
    kept = {"value": "ü", "version": "2-0123abcd", "expires_at_ms": 5}
    changes = [
        {"op": "set", "key": "a:1", **kept},
        {"op": "set", "key": "a:2", **kept | {"value_base64": "/wA="}},
        {"op": "set", "key": "a:3", "truncated": True, "version": "v", "expires_at_ms": None},
        {"op": "del", "key": "a:4", "cause": "expired"},
        {"op": "flush"},
    ]
    told = watcher.line(line("change", position="2-0123abcd", time_ms=9, changes=changes))
    assert told == Change(
        "2-0123abcd",
        9,
        (
            KeySet("a:1", "ü".encode(), "2-0123abcd", 5),
            KeySet("a:2", b"\xff\x00", "2-0123abcd", 5),
            KeySet("a:3", None, "v", None),
            KeyDeleted("a:4", "expired"),
            Flushed(),
        ),
    )
    assert watcher.params == [("prefix", "a:"), ("from", "2-0123abcd")]


def test_progress_moves_the_position_and_empty_lines_mean_nothing() -> None:
    watcher = follower()
    assert watcher.line("") is None
    assert watcher.line(line("progress", position="3-0123abcd")) == Progress("3-0123abcd")
    assert watcher.position == "3-0123abcd"


def test_first_state_that_is_cut_begins_anew() -> None:
    watcher = follower(initial=True)
    assert watcher.begin() == Begin()
    entry = line("entry", key="a:1", value="v", version="1-0123abcd", expires_at_ms=None)
    assert watcher.line(entry) == Entry("a:1", b"v", "1-0123abcd", None)
    assert watcher.line(line("progress", position="1-0123abcd")) is None
    assert INITIAL in watcher.params
    assert watcher.begin() == Begin()
    assert watcher.line(line("synced", position="1-0123abcd")) == Synced("1-0123abcd")
    assert watcher.begin() is None
    assert watcher.params == [("prefix", "a:"), ("from", "1-0123abcd")]


def test_reset_begins_the_first_state_anew() -> None:
    watcher = follower("1-0123abcd", initial=True)
    assert watcher.begin() is None
    assert watcher.line(line("reset", reason="compacted", oldest="9-0123abcd")) is None
    assert watcher.is_over
    assert watcher.begin() == Begin()
    assert watcher.params == [("prefix", "a:"), INITIAL]


def test_reset_without_a_first_state_is_an_error() -> None:
    reset = line("reset", reason="diverged", oldest="9-0123abcd", common=None)
    with pytest.raises(WatchReset, match="diverged") as told:
        follower("1-0123abcd").line(reset)
    assert (told.value.oldest, told.value.common) == ("9-0123abcd", "")


def test_close_ends_the_stream_and_says_when_to_come_again() -> None:
    watcher = follower()
    assert watcher.line(line("close", reason="draining", retry_ms=1500)) is None
    assert watcher.is_over
    assert watcher.cut(random=1.0) == 1.5
    watcher.begin()
    assert not watcher.is_over


def test_pauses_between_streams_grow_until_something_is_told() -> None:
    watcher = follower()
    pauses = [watcher.cut(random=1.0) for _ in range(7)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    watcher.line(line("progress", position="1-0123abcd"))
    assert watcher.cut(random=1.0) == 0.05


def test_event_of_a_later_version_is_passed_over() -> None:
    assert follower().line(line("something", new=1)) is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"event": "change", "position": "p"}'])
def test_what_is_no_event_is_an_error(text: str) -> None:
    with pytest.raises(SynapClientError, match="no line of a change feed"):
        follower().line(text)
