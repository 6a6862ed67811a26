"""An example of every operation, from `examples.json`: what is asked, and what comes back.

Tests ask a node all of them in their order, and hold its answers against those here.
"""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

_FILE = Path(__file__).parent / "examples.json"
_NODE = "http://127.0.0.1:15500"


class Example(msgspec.Struct, frozen=True):
    """One request and its answer.

    Attributes:
        operation: Method and path, with the fields of the path in braces.
        path: What stands for the fields.
        query: Parameters.
        headers: Those that it is about.
        body: JSON, or None.
        text: The body where it is no JSON.
        answer: JSON, or a text where it is none; None where there is nothing to show.
    """

    operation: str
    path: dict[str, str] = {}
    query: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None
    text: str | None = None
    answer: Any = None

    @property
    def curl(self) -> str:
        """The same as a command."""
        method, _, path = self.operation.partition(" ")
        for name, value in self.path.items():
            path = path.replace(f"{{{name}}}", quote(value, safe=":"))
        query = f"?{urlencode(self.query, safe=':')}" if self.query else ""
        words = ["curl", shlex.quote(f"{_NODE}{path}{query}")]
        content = self.text if self.text is not None else _json(self.body)
        if method not in ("GET", "POST") or (method == "POST" and content is None):
            words[1:1] = ["-X", method]
        for name, value in self.headers.items():
            words += ["-H", shlex.quote(f"{name}: {value}")]
        if self.text is not None:
            words += ["--data-binary", shlex.quote(self.text)]
        elif content is not None:
            words += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(content)]
        return " ".join(words)


@cache
def examples() -> tuple[Example, ...]:
    """Return all, in the order in which they can be carried out on a fresh node."""
    return msgspec.json.decode(_FILE.read_bytes(), type=tuple[Example, ...])


@cache
def example_of(operation: str) -> Example:
    """Return the example of a method and path; a bare one where there is nothing to give."""
    return next((each for each in examples() if each.operation == operation), Example(operation))


def _json(body: Any) -> str | None:
    return None if body is None else msgspec.json.encode(body).decode()
