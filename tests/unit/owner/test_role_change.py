"""What a change of role would lose, as far as the node can know."""

from __future__ import annotations

import msgspec
import pytest

from synap.owner.role_change import following_losses, promotion_losses
from synap.shared.board import BoardView

SECOND = 1_000_000_000
NOW = 1000 * SECOND
LEFT_ALONE = BoardView(
    role="replica",
    status="disconnected",
    applied_offset=50,
    master_offset=50,
    last_contact_ns=NOW - 10 * SECOND,
    heartbeat_ns=SECOND,
    first_sync_done=True,
)


def losses_of(**changes: object) -> list[str]:
    return promotion_losses(msgspec.structs.replace(LEFT_ALONE, **changes), NOW)


def test_replica_that_has_all_of_a_silent_master_loses_nothing() -> None:
    assert losses_of() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"master_offset": 53}, "3 entries"),
        ({"last_contact_ns": NOW - SECOND}, "still heard"),
        ({"first_sync_done": False}, "never held"),
        ({"status": "diverged"}, "diverged"),
    ],
)
def test_replica_names_what_its_promotion_would_lose(
    changes: dict[str, object], words: str
) -> None:
    (loss,) = losses_of(**changes)
    assert words in loss


def test_master_names_the_entries_that_no_replica_has() -> None:
    view = BoardView(role="master", applied_offset=50)
    assert following_losses(view, 50) == []
    assert "10 entries" in following_losses(view, 40)[0]


def test_master_whose_reign_has_ended_may_follow() -> None:
    view = BoardView(role="master", applied_offset=50, read_only="stale_epoch")
    assert following_losses(view, 0) == []
