"""The known name that was probably meant by one that nobody knows. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection

# Longer than any name that is known here; comparing costs the square of the length.
_MOST_CHARACTERS = 64


def nearest_name(name: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """Return the one of `known` that `name` is most like; None where none is near.

    Args:
        name: As it came, of any length.
        known: The names that count here.
        cutoff: How much alike they must be, from 0 to 1.
    """
    if len(name) > _MOST_CHARACTERS:
        return None
    by_small = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_small, n=1, cutoff=cutoff)
    return by_small[nearest[0]] if nearest else None
