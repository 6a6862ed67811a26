"""When a master knows that no other node can be one."""

from __future__ import annotations

import time

import pytest

from synap.shared.board import BoardView, is_alone

SOON_NS = 60_000_000_000


def view(**changes: object) -> BoardView:
    until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + SOON_NS
    return BoardView(**({"role": "master", "alone_until_ns": until_ns} | changes))  # type: ignore[arg-type]


def test_master_is_alone_until_its_lease_is_over() -> None:
    assert is_alone(view())
    assert is_alone(view(read_only="disk_full"))
    assert not is_alone(view(alone_until_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME)))


@pytest.mark.parametrize(
    "changes",
    [
        {"alone_until_ns": 0},
        {"role": "replica"},
        {"read_only": "stale_epoch"},
        {"read_only": "recovering"},
    ],
)
def test_node_without_a_lease_or_a_reign_is_not(changes: dict[str, object]) -> None:
    assert not is_alone(view(**changes))
