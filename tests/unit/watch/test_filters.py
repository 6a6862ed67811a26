"""Which keys a watcher gets."""

from __future__ import annotations

import pytest

from synap.commands.glob import compile_pattern
from synap.commands.key_spans import KeySpan
from synap.watch.filters import Selector, filter_of


@pytest.mark.parametrize(
    ("key", "is_wanted"),
    [(b"a", True), (b"ab", False), (b"p:1", True), (b"q7x", True), (b"q7y", False), (b"", False)],
)
def test_filter_takes_what_any_of_its_parts_fits(key: bytes, is_wanted: bool) -> None:
    wanted = filter_of([b"a"], [b"p:"], [b"q?x"])
    assert wanted.test()(key) == is_wanted
    assert not wanted.is_all


def test_filter_of_nothing_takes_all() -> None:
    assert filter_of().test()(b"any")
    assert filter_of().is_all


def test_filter_spans_lie_apart_and_in_order() -> None:
    wanted = filter_of([b"z", b"p:1"], [b"p:"], [b"a*z"])
    assert wanted.spans() == (KeySpan(b"a"), KeySpan(b"p:"), KeySpan(b"z", is_exact=True))


def test_filters_of_the_same_parts_are_one() -> None:
    assert filter_of([b"b", b"a"], [b"y", b"x"]) == filter_of([b"a", b"b", b"a"], [b"x", b"y"])


def test_selector_leaves_out_what_the_caller_may_not_read() -> None:
    selector = Selector(filter_of(prefixes=[b"a"]), lambda key: key != b"a2")
    assert [selector.accepts(key) for key in (b"a1", b"a2", b"b")] == [True, False, False]
    assert not Selector(filter_of(), lambda key: True).is_all


def test_selectors_of_many_patterns_compile_none_of_them_for_a_key() -> None:
    selectors = [
        Selector(filter_of(patterns=[b"%d-%d*" % (number, each) for each in range(60)]))
        for number in range(10)
    ]
    compiled = compile_pattern.cache_info().misses
    assert not any(selector.accepts(b"key") for selector in selectors)
    assert compile_pattern.cache_info().misses == compiled
