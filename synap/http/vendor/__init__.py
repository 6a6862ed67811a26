"""Files of others that pages of this node use, as their authors published them.

`vendor.json` lists each with its version, its licence and its SHA-256, which a test checks. Nothing
is fetched at run time: a page asks its own node alone.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
