"""What requests cost an HTTP worker, in instructions: none listed falls off the short way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.length import IS_LONG
from tests.instructions.count import BASIC, COUNTED, FORMS, PASSWORD, WITH_CREDENTIALS, Form
from tests.support import Node

_DEADLINE_SECONDS = 600

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="`make chaos` counts under valgrind"),
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    pytest.mark.timeout(_DEADLINE_SECONDS),
]


def counts(node: Node, folder: Path, forms: tuple[Form, ...]) -> dict[str, float]:
    """Return instructions a request of each form, with the node's configuration."""
    settings = json.dumps({name: str(value) for name, value in node.settings.items()})
    command = [
        "valgrind", "--tool=callgrind", "--collect-atstart=no",
        "--toggle-collect=_PyEval_CallTracing", "--dump-before=_PyEval_SetSwitchInterval",
        f"--callgrind-out-file={folder / 'counted'}",
        sys.executable, "-m", "tests.instructions.count", settings,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_SECONDS)
    assert done.returncode == 0, done.stderr
    found = {}
    for number, form in enumerate(forms, 1):
        text = (folder / f"counted.{number}").read_text()
        total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
        assert total is not None
        found[form.name] = int(total[1]) / COUNTED
    return found


def test_listed_requests_take_the_short_way(tmp_path: Path) -> None:
    found: dict[str, float] = {}
    for name, settings, forms in (
        ("plain", {}, FORMS),
        ("guarded", {"auth__enabled": True, "auth__root__password": PASSWORD}, WITH_CREDENTIALS),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with Node(folder, "node", settings) as node:
            headers = {"Authorization": f"Basic {BASIC}"} if settings else None
            for key in ("key:1", "key:2"):
                body = {"key": key, "value": "v" * 64}
                assert node.request("POST", "/kv/set", body, headers).status == 200
            found |= counts(node, folder, forms)
    ratios = {
        form.name: found[form.name] / found[form.plain] for form in (*FORMS, *WITH_CREDENTIALS)
    }
    for name, ratio in ratios.items():
        print(f"{name:28} {found[name]:8.0f} {ratio:5.2f}")
    # The kernel's part of a request is the same for all, and about as much again.
    over = {
        form.name: ratios[form.name]
        for form in (*FORMS, *WITH_CREDENTIALS)
        if ratios[form.name] > 2 * form.most
    }
    assert over == {}
