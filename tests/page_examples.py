"""Blocks of pages that are more than text."""

from __future__ import annotations

import re

_YAML = re.compile(r"^ *```yaml\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def documents(text: str) -> list[str]:
    """Return the blocks of YAML."""
    return list(_YAML.findall(text))
