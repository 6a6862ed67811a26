"""Transactions of one request on a dict, and against a model of what they mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synap.commands.keys import Delete
from synap.commands.keyspace import ABSENT, Limits
from synap.commands.records import NEVER, Record
from synap.commands.strings import Increment, Set
from synap.commands.txn import MAX_PARTS, Condition, Get, Txn, TxnResult
from synap.place import Place
from synap.request_errors import (
    AnswerTooLarge,
    InvalidRequest,
    InvalidValue,
    KeyInvalid,
    RecordCorrupt,
    ValueTooLarge,
)
from tests.unit.commands.test_commands import LATER, NOW, OTHER_TAG, TAG, Keys


def test_branch_is_that_of_the_conditions() -> None:
    keys = Keys(a=b"1")
    txn = Txn(
        (Condition(b"a", value=b"1"), Condition(b"b", exists=False)),
        (Set(b"b", b"2", LATER), Increment(b"a", 4), Delete((b"none",))),
        (Get(b"b"),),
    )
    result = TxnResult(True, (("set", None, f"102-{TAG}"), ("value", 5, ""), ("deleted", 0, "")))
    assert keys.run(txn) == result
    assert txn.counted(result) == (2, 0)
    assert keys.run(txn) == TxnResult(False, (("got", b"2", f"102-{TAG}"),))
    assert keys.expiry_ms(b"b") == LATER


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition(b"a", version=Place(101, TAG)), True),
        (Condition(b"a", version=Place(101, OTHER_TAG)), False),
        (Condition(b"a", version=ABSENT), False),
        (Condition(b"no", version=ABSENT), True),
        (Condition(b"a", exists=True), True),
        (Condition(b"old", exists=False), True),
        (Condition(b"a", value=b""), False),
        (Condition(b"no", value=b""), False),
    ],
)
def test_condition_is_on_version_existence_or_value(condition: Condition, holds: bool) -> None:
    keys = Keys(a=b"1")
    keys.put(b"old", b"1", NOW)
    result = keys.run(Txn((condition,), (Get(b"a"),)))
    assert isinstance(result, TxnResult)
    assert result.succeeded == holds


def test_get_sees_what_the_conditions_saw() -> None:
    keys = Keys(a=b"1")
    result = keys.run(Txn((), (Set(b"a", b"2"), Get(b"a"), Get(b"b"))))
    assert isinstance(result, TxnResult)
    assert result.results[1:] == (("got", b"1", f"101-{TAG}"), ("got", None, ""))


def test_part_that_fails_undoes_all_and_is_named() -> None:
    keys = Keys(text=b"x")
    with pytest.raises(InvalidValue, match=r"'then\[1\]'.*nothing was changed"):
        keys.run(Txn((), (Set(b"a", b"1"), Increment(b"text", 1))))
    assert keys.records.keys() == {b"text"}


@pytest.mark.parametrize(
    ("txn", "error"),
    [
        (Txn((), (Set(b"", b""),)), KeyInvalid),
        (Txn((Condition(b"k" * 504, exists=True),), ()), KeyInvalid),
        (Txn((), (), (Delete((b"",)),)), KeyInvalid),
        (Txn((), (Get(b"a"),) * (MAX_PARTS + 1)), InvalidRequest),
        (Txn((Condition(b"a", value=bytes(16 << 20)),), ()), ValueTooLarge),
    ],
)
def test_what_can_never_be_done_is_refused(txn: Txn, error: type[Exception]) -> None:
    with pytest.raises(error):
        Keys().run(txn)


def test_answer_is_bounded() -> None:
    keys = Keys(a=bytes(1 << 20))
    with pytest.raises(AnswerTooLarge):
        keys.run(Txn((), (Get(b"a"),) * 17))
    told = keys.run(Txn((), (Get(b"a"),) * 16))
    assert isinstance(told, TxnResult)
    assert told.value_bytes == 16 << 20


def test_damaged_record_is_told_as_such() -> None:
    class Damaged(Keys):
        def get(self, key: bytes) -> Record | None:
            raise RecordCorrupt(key)

    with pytest.raises(RecordCorrupt, match="'a' is damaged"):
        Damaged().run(Txn((), (Increment(b"a", 1),)))


def test_needs_are_those_of_both_branches() -> None:
    txn = Txn((Condition(b"a", exists=True),), (Set(b"b", b""), Get(b"c")), (Delete((b"d",)),))
    assert set(txn.needs()) == {
        ("read", b"kv:a"), ("write", b"kv:b"), ("read", b"kv:c"), ("delete", b"kv:d"),
    }  # fmt: skip


KEY = st.sampled_from([b"a", b"b", b"c"])
VALUE = st.sampled_from([b"1", b"2", b"x"])
CONDITION = st.one_of(
    st.builds(Condition, KEY, exists=st.booleans()), st.builds(Condition, KEY, value=VALUE)
)
PART = st.one_of(
    st.builds(Set, KEY, VALUE), st.builds(lambda key: Delete((key,)), KEY),
    st.builds(Increment, KEY, st.integers(-2, 2)), st.builds(Get, KEY),
)  # fmt: skip
TXN = st.builds(
    Txn,
    st.lists(CONDITION, max_size=3).map(tuple),
    st.lists(PART, max_size=5).map(tuple),
    st.lists(PART, max_size=5).map(tuple),
)


def model(state: dict[bytes, bytes], txn: Txn) -> tuple[dict[bytes, bytes], Any]:
    """Return the state after a transaction, and what it tells; None where it fails."""
    holds = all(
        (each.key in state) == each.exists
        if each.exists is not None
        else state.get(each.key) == each.value
        for each in txn.conditions
    )
    after, told = dict(state), []
    for part in txn.then if holds else txn.otherwise:
        if isinstance(part, Get):
            told.append(("got", state.get(part.key)))
        elif isinstance(part, Set):
            after[part.key] = part.value
            told.append(("set", None))
        elif isinstance(part, Delete):
            told.append(("deleted", int(after.pop(part.keys[0], None) is not None)))
        elif after.get(part.key) == b"x":
            return state, None
        else:
            total = int(after.get(part.key, b"0")) + part.amount
            after[part.key] = b"%d" % total
            told.append(("value", total))
    return after, (holds, told)


@given(st.dictionaries(KEY, VALUE), st.lists(TXN, max_size=6))
@settings(max_examples=150, deadline=None)
def test_transactions_do_what_the_model_says(state: dict[bytes, bytes], txns: list[Txn]) -> None:
    keys = Keys()
    for key, value in state.items():
        keys.put(key, value, NEVER)
    for txn in txns:
        state, expected = model(state, txn)
        try:
            found = txn.evaluate(keys, NOW, Limits(100))
            told = (found.succeeded, [each[:2] for each in found.results])
        except InvalidValue:
            assert expected is None
        else:
            assert told == expected
        assert {key: record.value for key, record in keys.records.items()} == state
