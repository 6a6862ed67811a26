"""Text from elsewhere on a terminal."""

import pytest

from workers.printable import printable


@pytest.mark.parametrize("text", ["", "replica 1", "Zürich [/x] \\ 日本"])
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "\r", "\x9b1m", "\u202e", "\ud800", "\x00"])
def test_what_moves_the_terminal_is_escaped(hostile: str) -> None:
    shown = printable(f"x{hostile}y")
    assert shown.isprintable()
    assert shown.startswith("x")
    assert shown.endswith("y")
