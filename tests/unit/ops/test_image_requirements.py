"""What the image is built of: complete, by hash, of the versions that are tested."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ops.image_requirements import REQUIREMENTS, ROOT, names, pins

LINES = REQUIREMENTS.read_text().replace("\\\n", " ").splitlines()
REQUIRED = [line.split() for line in LINES if line and not line.startswith("#")]


def test_requirements_are_all_that_is_needed_in_the_tested_versions() -> None:
    versions = pins()
    expected = {f"{name}=={versions[name]}" for name in names()}
    assert {requirement for requirement, *_ in REQUIRED} == expected
    assert any(requirement.startswith("hatchling==") for requirement, *_ in REQUIRED)


def test_requirements_name_nothing_but_hashes() -> None:
    assert REQUIRED
    for _, *hashes in REQUIRED:
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)
    assert "://" not in REQUIREMENTS.read_text()


# What the fake program says it can do: the image store, and whether buildx is there.
PROGRAM = """#!/bin/sh
case "$1" in
    info) echo "$STORE" ;;
    buildx) [ "$2" = build ] && echo "$@" >> "$ASKED" || [ -n "$BUILDX" ] ;;
    build) echo "$@" >> "$ASKED" ;;
esac
"""


@pytest.mark.parametrize(
    ("store", "buildx", "is_attested"),
    [
        ("[[driver-type io.containerd.snapshotter.v1]]", "1", True),
        ("[[Backing Filesystem extfs]]", "1", False),
        ("[[driver-type io.containerd.snapshotter.v1]]", "", False),
    ],
)
def test_image_has_sbom_and_provenance_where_they_can_be_kept(
    tmp_path: Path, store: str, buildx: str, is_attested: bool
) -> None:
    program, asked = tmp_path / "docker", tmp_path / "asked"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    digest = "sha256:" + "0" * 64
    environment = {
        **os.environ, "DOCKER": str(program), "STORE": store, "BUILDX": buildx,
        "ASKED": str(asked), "PYTHON_DIGEST": digest,
    }  # fmt: skip
    script = [str(ROOT / "ops/docker-build.sh"), "1.0"]
    built = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=30)
    assert built.returncode == 0, built.stderr
    told = asked.read_text()
    assert ("--sbom=true --provenance=mode=max" in told) is is_attested
    assert ("without SBOM" in built.stderr) is not is_attested
    assert f"PYTHON_DIGEST=@{digest}" in told
    wanted = subprocess.run(
        script, env=environment | {"SYNAP_ATTEST": "1"}, capture_output=True, text=True, timeout=30
    )
    assert wanted.returncode == (0 if is_attested else 1)


# Answers a question for the base's digest with what it is told, and notes what it is to build.
REGISTRY = """#!/bin/sh
case "$1 $2" in
    "buildx imagetools") [ -n "$DIGEST" ] && echo "$DIGEST" ;;
    buildx*) false ;;
    build*) echo "$@" >> "$ASKED" ;;
esac
"""
DIGEST = "sha256:" + "a" * 64


def build(folder: Path, **variables: str) -> tuple[int, str, str]:
    """Run the script; return its code, what it said, and what the program was to build."""
    program, asked = folder / "docker", folder / "asked"
    program.write_text(REGISTRY)
    program.chmod(0o700)
    asked.write_text("")
    told = {name: value for name, value in os.environ.items() if name != "PYTHON_DIGEST"}
    ended = subprocess.run(
        [str(ROOT / "ops/docker-build.sh"), "1.0"],
        env={**told, "DOCKER": str(program), "ASKED": str(asked), "DIGEST": "", **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return ended.returncode, ended.stderr, asked.read_text()


def test_image_is_built_on_what_the_registry_says_that_the_tag_names(tmp_path: Path) -> None:
    code, _, asked = build(tmp_path, DIGEST=DIGEST, SYNAP_RELEASE="1")
    assert code == 0
    assert f"PYTHON_DIGEST=@{DIGEST}" in asked
    assert f"BASE_DIGEST={DIGEST}" in asked
    assert "BASE_NAME=docker.io/library/python:3.13-slim-bookworm" in asked


def test_release_without_a_digest_is_not_built(tmp_path: Path) -> None:
    code, said, asked = build(tmp_path, SYNAP_RELEASE="1")
    assert (code, asked) == (1, "")
    assert "set PYTHON_DIGEST" in said


def test_image_without_a_digest_says_so(tmp_path: Path) -> None:
    code, said, asked = build(tmp_path)
    assert code == 0
    assert "whose digest nobody tells" in said
    assert "--build-arg PYTHON_DIGEST= " in asked


def test_digest_that_is_none_is_refused(tmp_path: Path) -> None:
    code, said, asked = build(tmp_path, PYTHON_DIGEST="3.13")
    assert (code, asked) == (1, "")
    assert "is no digest" in said
