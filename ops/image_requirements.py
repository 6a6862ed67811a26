"""Writes ops/image-requirements.txt: what the image is built of, each wheel by its SHA-256.

    python -m ops.image_requirements

The versions are those of constraints.txt; the names are what Synap and its build backend need, as
the environment that this runs in has them installed. For each Python and platform of the image pip
downloads the wheels from the index that it is configured with, and their content is hashed here:
the file says nothing of where they came from. Run it after constraints.txt has changed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "ops/image-requirements.txt"
_PYTHONS = ("3.12", "3.13")
_MACHINES = ("x86_64", "aarch64")
# The C library of the base image is 2.36.
_PLATFORMS = (
    "manylinux1",
    "manylinux2010",
    "manylinux2014",
    *(f"manylinux_2_{minor}" for minor in range(5, 37)),
)
_HEAD = """\
# What the image is built of, with the build backend; made by `python -m ops.image_requirements`.
# Wheels for CPython 3.12 and 3.13 on x86_64 and aarch64; any other is refused.
"""


def names() -> set[str]:
    """Return the normal names of all that Synap and its build backend need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    todo = [Requirement(each) for each in wanted]
    found: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = normal(requirement.name)
        if name in found:
            continue
        found.add(name)
        needed = map(Requirement, metadata.requires(name) or ())
        todo += [
            each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return found


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt by normal names."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    """Return a project's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Write the file and return the exit code."""
    versions = pins()
    wanted = [f"{name}=={versions[name]}" for name in sorted(names())]
    hashes: dict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        for python in _PYTHONS:
            for machine in _MACHINES:
                _download(wanted, python, machine, folder)
        for wheel in Path(folder).iterdir():
            hashes[normal(wheel.name.split("-")[0])].add(sha256(wheel.read_bytes()).hexdigest())
    lines = [
        " \\\n    ".join(
            [each, *(f"--hash=sha256:{h}" for h in sorted(hashes[each.split("==")[0]]))]
        )
        for each in wanted
    ]
    REQUIREMENTS.write_text(_HEAD + "\n".join(lines) + "\n")
    return 0


def _download(wanted: list[str], python: str, machine: str, folder: str) -> None:
    platforms = [f"--platform={platform}_{machine}" for platform in _PLATFORMS]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
            *platforms, f"--dest={folder}", *wanted,
        ],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
