"""The load itself: it must see a loss where there is one."""

from __future__ import annotations

import time

import pytest

from tests.chaos.load import Cut, Load, Unit
from tests.conftest import StartNode
from tests.support import HOST, eventually

PAIR = ("a", "b")


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        (Unit(("a",)), [None]),
        (Unit(("a",), acknowledged=7), [7]),
        (Unit(("a",), acknowledged=7, in_doubt=9), [7]),
        (Unit(("a",), acknowledged=7, in_doubt=9), [9]),
        (Unit(PAIR, in_doubt=9), [None, None]),
        (Unit(PAIR, acknowledged=7, in_doubt=9), [9, 9]),
    ],
)
def test_unit_with_promised_values_has_no_fault(unit: Unit, values: list[int | None]) -> None:
    assert unit.fault(values) == ""


@pytest.mark.parametrize(
    ("unit", "values", "fault"),
    [
        (Unit(("a",), acknowledged=7), [None], "lost"),
        (Unit(("a",), acknowledged=7), [5], "lost"),
        (Unit(("a",), acknowledged=7), [8], "lost"),
        (Unit(("a",), acknowledged=7, in_doubt=9), [8], "lost"),
        (Unit(PAIR, acknowledged=7, in_doubt=9), [7, 9], "half written"),
        (Unit(PAIR, in_doubt=9), [None, 9], "half written"),
    ],
)
def test_unit_with_other_values_names_its_fault(
    unit: Unit, values: list[int | None], fault: str
) -> None:
    assert unit.fault(values).startswith(fault)


@pytest.mark.parametrize(
    ("sent", "received", "is_open"),
    [(1, 2, False), (1, 4, True), (4, 5, True), (1, 9, True), (4, 9, True), (8, 9, False)],
)
def test_cut_leaves_open_what_is_answered_across_it(
    sent: float, received: float, is_open: bool
) -> None:
    assert Cut(3, 6).leaves_open(sent, received) == is_open


def test_load_during_a_cut_has_its_answers_in_doubt_and_counts_those_after_it(
    start_node: StartNode,
) -> None:
    load = Load(f"http://{HOST}:{start_node().port}")
    with load:
        eventually(lambda: load.has_acknowledged(50))
        with load.cut():
            eventually(lambda: all(any(u.in_doubt for u in w.units) for w in load.writers))
        ended = time.monotonic()
        eventually(lambda: load.succeeds_since(ended))
    assert load.faults() == []


def test_load_on_a_node_that_loses_a_write_reports_it(start_node: StartNode) -> None:
    node = start_node()
    load = Load(f"http://{HOST}:{node.port}")
    with load:
        eventually(lambda: load.has_acknowledged(200))
    assert load.faults() == []
    victim = next(unit for unit in load.writers[0].units if unit.acknowledged)
    node.request("DELETE", f"/kv/del/{victim.keys[0]}")
    assert [fault.partition(":")[0] for fault in load.faults()] == ["lost"]
