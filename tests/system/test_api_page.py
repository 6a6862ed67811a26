"""The examples of docs/api.md, in their order, with a fresh node: each answer has the page's form.

Values differ from run to run; the names of fields, and what is in which, do not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.pages import page
from tests.support import HOST, Node

# What asks for a second node, or would end this one's role; tests/system/test_roles.py has them.
ROLES = ("promote", "seal", "follow", "pause", "resume", "accept")
ELSEWHERE = ("SYNAP=http", *(f"/replication/{role}" for role in ROLES))
# A stream ends by curl's own deadline.
TIMED_OUT = 28
QUIET = 'curl() { command curl -sS "$@"; }\n'


class Example(NamedTuple):
    command: str
    told: list[str]


def examples() -> list[Example]:
    found: list[Example] = []
    for block in re.findall(r"^```sh\n(.*?)^```", page("api.md"), re.MULTILINE | re.DOTALL):
        pending = ""
        for line in block.splitlines():
            if not pending and line.startswith("# "):
                found[-1].told.append(line[2:])
                continue
            command, _, told = line.partition("  # ")
            pending += command.rstrip() + "\n"
            if pending.count("'") % 2 == 0 and not command.endswith("\\"):
                found.append(Example(pending, [told.strip()] if told else []))
                pending = ""
    return [each for each in found if not any(part in each.command for part in ELSEWHERE)]


def values_in(lines: list[str]) -> list[Any]:
    """Return the JSON that lines hold: one value over all, or one in each; else none."""
    # What a page says besides begins otherwise.
    ends = [number for number, line in enumerate(lines) if line[:1].isupper()]
    lines = lines[: ends[0]] if ends else lines
    for texts in (["".join(lines)], lines):
        try:
            return [json.loads(text) for text in texts if text]
        except ValueError:
            continue
    return []


def has_form(value: Any, form: Any) -> bool:
    """Whether a value has the same fields, with the same in them; a list may be empty."""
    if isinstance(value, dict) and isinstance(form, dict):
        return value.keys() == form.keys() and all(
            has_form(value[name], form[name]) for name in form
        )
    if isinstance(value, list) and isinstance(form, list):
        return not value or not form or has_form(value[0], form[0])
    return not isinstance(value, dict | list) or form is None


def run(command: str, url: str, folder: Path) -> list[str]:
    environment = {**os.environ, "SYNAP": url, "COMMAND": f"{url}/api/v1/command"}
    ended = subprocess.run(
        ["bash", "-c", QUIET + command.replace("-m 2 ", "-m 0.3 ")], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert ended.returncode in (0, TIMED_OUT), ended.stderr
    return ended.stdout.splitlines()


def test_every_example_answers_in_the_form_of_the_page(
    shared_node: Node, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    (tmp_path / "logo.png").write_bytes(bytes(range(256)))
    assert len(examples()) > 60
    for example in examples():
        with subtests.test(example.command.strip()):
            lines = run(example.command, f"http://{HOST}:{shared_node.port}", tmp_path)
            expected = values_in(example.told)
            answered = values_in(
                [line for line in lines if line[:1] in '{["' or line[:1].isdigit()]
            )
            headers = {
                each.partition(":")[0] for each in example.told if re.match(r"[a-z-]+: ", each)
            }
            assert headers <= {line.partition(":")[0].lower() for line in lines}
            if expected:
                assert len(answered) == len(expected), lines
                assert all(map(has_form, answered, expected)), lines
