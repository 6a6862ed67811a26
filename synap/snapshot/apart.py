"""Looking at an image that comes from elsewhere, in a process of its own.

A backup, or what a master sends, may have been made so that it ends the process that reads it, or
so that reading it never ends. So a child walks all of it first, bounded in memory and in time, with
an environment that holds no secret, and the caller learns what the image holds or why it is none.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from synap.errors import StoreUnusable
from synap.store import ImageFacts, walk_image

# The child itself, and the least speed at which it walks: a tenth of what a slow machine shows.
_START_SECONDS = 60
_BYTES_PER_SECOND = 1024 * 1024
# Python with its libraries; the image is mapped twice, by the walk and by LMDB.
_OWN_BYTES = 512 * 1024 * 1024
_MAPPINGS = 3
_PACKAGES = Path(__file__).resolve().parents[2]


class _Outcome(msgspec.Struct, frozen=True):
    """What the child tells: either of the two."""

    facts: ImageFacts | None = None
    fault: str = ""


def walk_apart(image: Path) -> ImageFacts:
    """Return what the uncompressed image at `image` holds, once a child has walked all of it.

    In any thread; it takes the child's time.

    Raises:
        StoreUnusable: it is no sound store.
        OSError: no child can be started.
    """
    search = [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]
    size = image.stat().st_size
    try:
        ended = subprocess.run(
            (sys.executable, "-P", "-m", "synap.snapshot.apart", str(image.absolute())),
            env={"PYTHONPATH": os.pathsep.join(filter(None, search))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * _seconds_for(size),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreUnusable(f"{image} is no sound store: reading it does not end") from error
    if ended.returncode:
        raise StoreUnusable(f"{image} is no sound store: {_cause_of(ended)}")
    outcome = msgspec.json.decode(ended.stdout, type=_Outcome)
    if outcome.facts is None:
        raise StoreUnusable(outcome.fault)
    return outcome.facts


def _cause_of(ended: subprocess.CompletedProcess[bytes]) -> str:
    if ended.returncode < 0:
        return f"reading it ended by {signal.Signals(-ended.returncode).name}"
    return ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]


def _seconds_for(size: int) -> int:
    return _START_SECONDS + size // _BYTES_PER_SECOND


def _bound(size: int) -> None:
    """Take from this process what a walk of `size` bytes does not need."""
    seconds = _seconds_for(size)
    memory = _OWN_BYTES + _MAPPINGS * size
    for limit, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    # Also where the parent is gone.
    signal.alarm(2 * seconds)


def main() -> int:
    """Walk the image that the argument names, tell the outcome, and return the exit code."""
    image = Path(sys.argv[1])
    _bound(image.stat().st_size)
    try:
        outcome = _Outcome(facts=walk_image(image))
    except StoreUnusable as error:
        outcome = _Outcome(fault=error.message)
    except (OSError, MemoryError) as error:
        outcome = _Outcome(fault=f"{image} can't be read: {error or type(error).__name__}")
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
