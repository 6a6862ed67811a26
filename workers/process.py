"""The frame of a node's processes: how one is started, and how it ends.

A child gets its whole configuration by the environment: SYNAP_CONFIG names the file, and
SYNAP_<SECTION>__<KEY> carries what the command line said. It ends with one of the codes below, and
it dies with the process that started it, so that a killed supervisor leaves nothing behind that
holds a port or a lock.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synap.config.handed import config_of_environment
from synap.config.variables import FILE_VARIABLE, HANDED_VARIABLE, variable_of
from synap.errors import DataDirLost, StartError, StoreDamaged, StoreUnusable, WalCorrupt
from workers.log_output import queued_logging

if TYPE_CHECKING:
    import asyncio

    from synap.config.keys import Config

EXIT_CLEAN = 0
EXIT_FAILED = 1
# The process can't start for a reason that a restart won't mend.
EXIT_REFUSED = 3
# The node's role has changed: the owner of the new one is to be started at once.
EXIT_ROLE_CHANGED = 4
# Of a supervisor alone, to whoever called it: the run directory was emptied.
EXIT_RUN_DIR_LOST = 5

PARENT_VARIABLE = "SYNAP_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1
# For glibc, in bytes: from the start what it comes to by itself at most. Before that it gives the
# kernel back what a long value took as soon as that is freed, and the next value's pages are mapped
# and cleared anew: half of what the log's owner spends on a value of 1 MiB.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}
# A disk that is away, read-only or failing; too many open files; too little memory.
_PASSING = frozenset({
    errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EUCLEAN,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN,
})  # fmt: skip
_PROJECT_ROOT = Path(__file__).resolve().parent.parent

logger = logging.getLogger(__name__)


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage meanwhile, nor later in what was made: what an import makes stays.

    It is a quarter of an import's time, and half of what a process takes to end.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def open_standard_files() -> None:
    """Have standard input, output and error lead to nowhere where they are closed.

    Else the next file that is opened gets the number, and what is printed goes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    # As the interpreter made them, which found nothing there.
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def keep_private() -> None:
    """Have whatever this process and its children write be for its user alone.

    Logs, snapshots and backups hold everything, with the hashes of passwords.
    """
    os.umask(0o077)


def run(name: str, body: Callable[[Config], int]) -> int:
    """Run one process of a node and return its exit code.

    Args:
        name: What the process is, for the log.
        body: The process itself; returns its exit code when it was told to stop.
    """
    # What was imported stays: it need not be looked through for garbage.
    gc.freeze()
    die_with_parent()
    keep_private()
    raise_open_files()
    try:
        config = config_of_environment()
    except StartError as error:
        print(error, file=sys.stderr)
        return EXIT_REFUSED
    with queued_logging(config, name):
        try:
            return body(config)
        except (StartError, WalCorrupt, StoreUnusable) as error:
            logger.critical("%s can't start: %s", name, error, extra={"reason": error.reason})
            return EXIT_FAILED if _may_pass(error) else EXIT_REFUSED
        except DataDirLost as error:
            logger.critical("%s ends: %s", name, error, extra={"reason": error.reason})
            return EXIT_REFUSED
        except StoreDamaged as error:
            logger.critical(
                "%s ends, and its next start rebuilds the live store: %s", name, error,
                extra={"reason": error.reason},
            )  # fmt: skip
            return EXIT_FAILED
        except Exception:
            logger.critical("%s failed", name, exc_info=True)
            return EXIT_FAILED


def _may_pass(error: BaseException | None) -> bool:
    """Say whether a disk or a lack of files is behind `error`: a later start may succeed."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        # LMDB's errors have no number.
        if any(str(error).endswith(os.strerror(number)) for number in _PASSING):
            return True
        error = error.__cause__ or error.__context__
    return False


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT call `stop` on `loop`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends.

    Does nothing in a process that no supervisor started. The kernel forgets this at a fork, so a
    child that forks calls it again in its own children.
    """
    expected = os.environ.get(PARENT_VARIABLE)
    if not expected:
        return
    kill_when_orphaned(int(expected))


def kill_when_orphaned(parent_pid: int) -> None:
    """Have the kernel kill this process when `parent_pid`, its parent, ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # It ended before the line above.
        os._exit(EXIT_FAILED)


def raise_open_files() -> None:
    """Let this process and its children have open all the files that the system allows them.

    A peer costs one, and what a node does for its log costs some that must be had.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Without a hard limit the kernel has one of its own, which it does not tell here.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def allow_open_files(count: int) -> None:
    """Let this process and its children have `count` files and sockets open, as far as it may.

    Shells and service managers give 1024 by default and allow more to who asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        logger.warning("server.max_connections needs %d open files, the limit is %d", count, hard)
        count = hard
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs `module`, whatever lies in the current folder."""
    return (sys.executable, "-P", "-m", module, *arguments)


def child_environment(
    environ: Mapping[str, str], path: Path | None, overrides: Mapping[str, Any]
) -> dict[str, str]:
    """Return the environment that hands the configuration of this process to a child.

    It also sets glibc's allocator up, where `environ` does not.

    Args:
        environ: This process's own environment.
        path: The configuration file, if there is one.
        overrides: The command line's values by dotted key.
    """
    search_path = [str(_PROJECT_ROOT), environ.get("PYTHONPATH", "")]
    environment = {
        **_ALLOCATOR,
        **environ,
        PARENT_VARIABLE: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
    }
    # What was handed to this process is not what `overrides` make of it.
    environment.pop(HANDED_VARIABLE, None)
    if path is not None:
        environment[FILE_VARIABLE] = str(path.absolute())
    for key, value in overrides.items():
        environment[variable_of(key)] = str(value)
    return environment
