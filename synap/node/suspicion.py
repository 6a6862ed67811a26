"""Notes that the live store in use is damaged.

One is for the next start, which does not trust the store; the other is for the log's owner that
runs, of what a reader met. They lie in the run directory, on another disk mostly than the store: a
disk that damaged pages may take no note of it. Each names the generation, so that it says nothing
of the one that is rebuilt.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from synap.errors import StoreUnusable
from synap.node.paths import NodePaths
from synap.store.generations import came_in_use_ns, current

logger = logging.getLogger(__name__)

_NAME = "suspected"
_MET = "damage-met"


def suspect(paths: NodePaths, why: str) -> None:
    """Have the next start put the store aside and rebuild it."""
    try:
        generation = current(paths.store_dir)
        if generation is not None:
            _note(paths, _NAME, generation, why)
    except (OSError, StoreUnusable) as error:
        logger.error("that the store is damaged can't be noted: %s", error)


def suspicion(paths: NodePaths) -> str:
    """Return why the store in use is suspected; empty where it is not."""
    return _noted(paths, _NAME)


def note_met(paths: NodePaths, generation: int, why: str) -> None:
    """Tell the log's owner of damage that a reader met in a generation of the store."""
    try:
        _note(paths, _MET, generation, why)
    except OSError as error:
        logger.error("that the store is damaged can't be noted: %s", error)


def note_reader_ended(paths: NodePaths, started_ns: int, why: str) -> None:
    """Tell it that the store's pages ended a reader.

    One that is older than the generation in use may have met the one before it: it says nothing.

    Args:
        started_ns: When (wall clock) the reader was started.
    """
    try:
        generation = current(paths.store_dir)
        if generation is not None and came_in_use_ns(paths.store_dir) < started_ns:
            _note(paths, _MET, generation, why)
    except (OSError, StoreUnusable) as error:
        logger.error("that the store is damaged can't be noted: %s", error)


def take_met(paths: NodePaths) -> str:
    """Return what a reader met in the store in use, and forget it; empty for nothing."""
    why = _noted(paths, _MET)
    with suppress(OSError):
        (paths.run_dir / _MET).unlink(missing_ok=True)
    return why


def _note(paths: NodePaths, name: str, generation: int, why: str) -> None:
    (paths.run_dir / name).write_text(f"{generation} {why}", "utf-8")


def _noted(paths: NodePaths, name: str) -> str:
    try:
        number, _, why = (paths.run_dir / name).read_text("utf-8").partition(" ")
        return why if number == str(current(paths.store_dir)) else ""
    except (OSError, UnicodeError, StoreUnusable):
        return ""


def clear_suspicion(paths: NodePaths) -> None:
    """Forget it, for another store is in use."""
    with suppress(OSError):
        (paths.run_dir / _NAME).unlink(missing_ok=True)
