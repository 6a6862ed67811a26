"""The operations page says what can be lost when, and names a test for each cell of that."""

from __future__ import annotations

from tests.pages import NAMED_TEST, missing_tests, page, rows, section

PAGE = page("operations.md")
MODES = ["`always`", "`periodic`", "`never`"]


def test_every_test_and_file_that_the_operations_page_names_is_there() -> None:
    assert missing_tests(PAGE) == []


def test_every_cell_of_what_can_be_lost_names_a_test() -> None:
    (head, *lost), (_, *tests) = _tables()
    assert [cell.removesuffix(" (default)") for cell in head[1:]] == [*MODES, "a quorum"]
    assert len(lost) > 8
    assert [row[0] for row in lost] == [row[0] for row in tests]
    assert [row[0] for row in tests if len(row) != 3] == []
    assert [row[0] for row in tests if not all(map(NAMED_TEST.search, row[1:]))] == []


def _tables() -> tuple[list[list[str]], list[list[str]]]:
    """Return the table of losses, and that of their tests."""
    found = rows(section(PAGE, "## What can be lost when"))
    second = next(number for number, row in enumerate(found) if number and row[0] == "Event")
    return found[:second], found[second:]
