"""The checker of histories: it takes what could have happened and finds what was planted."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.linearizability import (
    CREATE,
    DELETE,
    FOREVER,
    GET,
    INCREMENT,
    SET,
    SWAP,
    Operation,
    State,
    apply,
    is_linearizable,
    violations,
)

KINDS = (GET, GET, SET, INCREMENT, CREATE, SWAP, DELETE)


def op(kind: str, called: float, returned: float, **fields: object) -> Operation:
    return Operation("key", kind, called, returned, **fields)


def history(seed: int, count: int = 60) -> list[Operation]:
    """Return what four clients saw of one register that did one thing at a time."""
    random = Random(seed)
    state: State = (None, 0)
    made = []
    for at in range(1, count + 1):
        kind, expected = random.choice(KINDS), max(0, state[1] - random.choice((0, 0, 1)))
        value, version = state
        does_write = {
            GET: False, CREATE: value is None, SWAP: value is not None and version == expected,
        }.get(kind, True)  # fmt: skip
        result: int | bool | None = {GET: value, INCREMENT: (value or 0) + 1}.get(kind, does_write)
        told = (version if kind == GET else at) if kind == GET or does_write else None
        called, returned = at - 3 * random.random(), at + 3 * random.random()
        each = op(
            kind, called, returned, value=at, expected=expected, result=result,
            version=None if kind == DELETE else told,
        )  # fmt: skip
        (state,) = apply(each, state)
        made.append(each)
    return sorted(made, key=lambda each: each.called)


@pytest.mark.parametrize("seed", range(20))
def test_history_of_a_register_is_linearizable(seed: int) -> None:
    assert is_linearizable(history(seed))


def test_write_of_unknown_outcome_may_have_happened_late_or_never() -> None:
    lost = op(SET, 1, FOREVER, value=5)
    assert is_linearizable([lost, op(GET, 2, 3, result=None), op(GET, 9, 10, result=5, version=4)])
    assert is_linearizable([lost, op(GET, 2, 3, result=None), op(GET, 9, 10, result=None)])
    seen_and_gone = [op(GET, 2, 3, result=5, version=4), op(GET, 4, 5, result=None)]
    assert not is_linearizable([lost, *seen_and_gone])


@pytest.mark.parametrize(
    "planted",
    [
        [
            op(SET, 1, 2, value=1),
            op(SET, 3, 4, value=2),
            op(GET, 5, 6, result=1),
        ],
        [op(SET, 1, 2, value=1), op(GET, 3, 4, result=None)],
        [
            op(SET, 1, 2, value=1, version=1),
            op(SWAP, 3, 4, value=2, expected=1, result=True, version=2),
            op(SWAP, 5, 6, value=3, expected=1, result=True, version=3),
        ],
        [op(INCREMENT, 1, 4, result=1), op(INCREMENT, 2, 5, result=1)],
        [op(CREATE, 1, 4, value=1, result=True), op(CREATE, 2, 5, value=2, result=True)],
        [
            op(SET, 1, 2, value=1, version=1),
            op(SET, 3, 9, value=2, version=2),
            op(GET, 4, 5, result=2, version=1),
        ],
        [
            op(SET, 1, 2, value=1),
            op(SET, 3, 20, value=2),
            op(GET, 4, 5, result=2),
            op(GET, 6, 7, result=1),
        ],
    ],
    ids=[
        "stale read", "lost write", "both swaps of a version", "lost increment",
        "both creations", "half applied", "read back in time",
    ],
)  # fmt: skip
def test_planted_violation_is_found(planted: list[Operation]) -> None:
    assert violations(planted) == ["key"]


@pytest.mark.parametrize("seed", range(20))
def test_read_of_a_value_that_was_never_there_is_found_in_a_long_history(seed: int) -> None:
    made = history(seed)
    place = Random(seed).choice([n for n, each in enumerate(made) if each.kind == GET])
    made[place] = replace(made[place], result=1_000_000, version=None)
    assert not is_linearizable(made)


def test_keys_are_checked_apart() -> None:
    good = [replace(each, key="good") for each in history(1)]
    bad = [replace(op(GET, 1, 2, result=7), key="bad")]
    assert violations([*good, *bad]) == ["bad"]
