"""A note that the live store in use is not to be trusted at the next start.

It lies in the run directory, on another disk mostly than the store: a disk that damaged pages may
take no note of it. It names the generation, so that it says nothing of the one that is rebuilt.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from synap.errors import StoreUnusable
from synap.node.paths import NodePaths
from synap.store.generations import current

logger = logging.getLogger(__name__)

_NAME = "suspected"


def suspect(paths: NodePaths, why: str) -> None:
    """Have the next start put the store aside and rebuild it."""
    try:
        generation = current(paths.store_dir)
        if generation is not None:
            (paths.run_dir / _NAME).write_text(f"{generation} {why}", "utf-8")
    except (OSError, StoreUnusable) as error:
        logger.error("that the store is damaged can't be noted: %s", error)


def suspicion(paths: NodePaths) -> str:
    """Return why the store in use is suspected; empty where it is not."""
    try:
        number, _, why = (paths.run_dir / _NAME).read_text("utf-8").partition(" ")
        return why if number == str(current(paths.store_dir)) else ""
    except (OSError, UnicodeError, StoreUnusable):
        return ""


def clear_suspicion(paths: NodePaths) -> None:
    """Forget it, for another store is in use."""
    with suppress(OSError):
        (paths.run_dir / _NAME).unlink(missing_ok=True)
