"""Debian's package lists as a data set: about 60,000 records of real text.

`apt-cache dumpavail` prints one paragraph of fields for each package, as described in deb822(5).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator

Package = dict[str, str]


class NoPackages(Exception):
    """This machine has no package lists to load."""


def available_packages() -> list[Package]:
    """Return every record of `apt-cache dumpavail`.

    Raises:
        NoPackages: there are none; the message says how to get them.
    """
    if shutil.which("apt-cache") is None:
        raise NoPackages(
            "apt-cache is not installed: the data set is the package list of Debian or Ubuntu, "
            "so run the demonstration on one of them, or in a container of one."
        )
    dump = subprocess.run(
        ["apt-cache", "dumpavail"], capture_output=True, encoding="utf-8", errors="replace"
    )
    packages = list(parse_packages(dump.stdout.splitlines()))
    if not packages:
        raise NoPackages(
            "apt-cache has no package lists: get them with `apt-get update` (as root) and start "
            "again."
        )
    return packages


def parse_packages(lines: Iterable[str]) -> Iterator[Package]:
    """Yield the fields of each paragraph, in their order.

    A line that begins with a blank continues the field before it, after a line feed.
    """
    package: Package = {}
    field = ""
    for line in lines:
        if not line.strip():
            if package:
                yield package
            package = {}
        elif line[0] in " \t" and package:
            package[field] += "\n" + line[1:]
        else:
            field, _, text = line.partition(":")
            package[field] = text.strip()
    if package:
        yield package


def package_key(package: Package) -> str:
    """Return the key that a record is stored under: `deb:<package>:<version>:<arch>`."""
    return f"deb:{package['Package']}:{package['Version']}:{package['Architecture']}"
