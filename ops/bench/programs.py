"""The programs that the benchmark drives; it installs none of them."""

from __future__ import annotations

import shutil

from ops.bench.errors import ProgramMissing

DEBIAN_PACKAGES = {
    "wrk": "wrk",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "webdis": "webdis",
    "etcd": "etcd-server",
}


def require_program(name: str) -> str:
    """Return the path of a program.

    Raises:
        ProgramMissing: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise ProgramMissing(name, DEBIAN_PACKAGES[name])
    return path
