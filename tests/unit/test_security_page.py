"""The security page names a test for each of its claims: those tests are there."""

from __future__ import annotations

import pytest

from tests.pages import NAMED_TEST, missing_tests, named_tests, page, rows, section

PAGE = page("security.md")
# What the page says that each of these can and can't do.
PLACES = (
    "A stranger who reaches HTTP",
    "A stranger who reaches the replication ports",
    "A member of the cluster",
    "A user with few permissions",
    "Another user of the machine",
    "A web page",
    "Who has a backup",
)


def test_every_test_and_file_that_the_security_page_names_is_there() -> None:
    assert len(named_tests(PAGE)) > 30
    assert missing_tests(PAGE) == []


@pytest.mark.parametrize("place", PLACES)
def test_every_row_of_a_place_names_a_test(place: str) -> None:
    _, *claims = rows(section(PAGE, f"### {place}"))
    assert claims
    assert [row for row in claims if not NAMED_TEST.search(" ".join(row))] == []
