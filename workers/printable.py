"""Text from elsewhere, fit for a terminal: what a node, a file or a stranger said, for people.

It uses nothing but builtins, as `health` does without libraries.
"""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return `text` with what is no plain character escaped, `\x1b` and line ends too.

    So it stays in its line, and changes neither colours, nor the title, nor what is above it.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
