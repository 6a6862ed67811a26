"""What a read has to see."""

from __future__ import annotations

import pytest
from synap_client.rules.positions import Positions

REIGN, NEXT = "0123abcd", "89abcdef"


def wrote(*positions: str) -> Positions:
    kept = Positions()
    for position in positions:
        kept.wrote(position)
    return kept


def test_nothing_written_asks_for_nothing() -> None:
    assert Positions().newest == ""


def test_newest_counts_in_whatever_order_answers_come() -> None:
    assert wrote(f"9-{REIGN}", f"10-{REIGN}", f"8-{REIGN}").newest == f"10-{REIGN}"


def test_next_reign_goes_on_from_the_one_before() -> None:
    assert wrote(f"10-{REIGN}", f"12-{NEXT}", f"9-{REIGN}").newest == f"12-{NEXT}"


def test_lost_end_of_a_reign_is_told_before_the_next_counts() -> None:
    kept = wrote(f"10-{REIGN}", f"9-{NEXT}")
    assert kept.newest == f"10-{REIGN}"
    kept.lost(kept.newest)
    assert kept.newest == f"9-{NEXT}"
    kept.lost("")
    assert kept.newest == f"9-{NEXT}"


@pytest.mark.parametrize("text", ["", "5", "5-xyz", "5-0123ABCD", "-0123abcd", "٥-0123abcd"])
def test_what_is_no_position_is_passed_over(text: str) -> None:
    assert wrote(text).newest == ""


def test_reigns_of_long_ago_are_forgotten() -> None:
    kept = wrote(*[f"{100 - number}-{number:08x}" for number in range(9)])
    assert kept.newest == "99-00000001"
