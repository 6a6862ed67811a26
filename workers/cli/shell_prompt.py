"""The prompt of `synap shell`: history, and completion of commands, options and keys."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory

from workers.cli.http_call import CallFailed, call
from workers.cli.members import state_folder
from workers.printable import printable

# Commands with a key for each argument, and those with one for the first.
_ALL_KEYS = frozenset({"del"})
_FIRST_KEY = frozenset({"get", "set", "incr", "scan", "watch"})
_MOST_KEYS = 30
# What is typed does not wait for it: the node is asked beside.
_ANSWER_SECONDS = 1.0
# A key that a shell's line takes without quotes.
_PLAIN = re.compile(r"[\w@%+=:,./-]+")


def prompt(url: str, names: Callable[[list[str]], list[str]]) -> Callable[[], str]:
    """Return what asks for a line; it raises EOFError at the end.

    Args:
        url: The node whose keys are completed.
        names: What may come behind words: `Commands.names`.
    """
    session: PromptSession[str] = PromptSession(
        "synap> ",
        history=FileHistory(str(history_file())),
        # It asks for no more of a completer than its one method.
        completer=ThreadedCompleter(cast(Any, Completions(url, names))),
        complete_while_typing=False,
    )
    return lambda: str(session.prompt())


def history_file() -> Path:
    """Return the file of the lines that were typed; only its user may read it.

    It is in XDG_STATE_HOME, or in ~/.local/state.
    """
    file = state_folder() / "history"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return file


class Completions:
    """What may stand where the cursor is."""

    def __init__(self, url: str, names: Callable[[list[str]], list[str]]) -> None:
        self._url = url
        self._names = names

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Yield them; none where the node does not answer."""
        *before, word = re.split(r"\s+", document.text_before_cursor.lstrip())
        for each in self._found(before, word):
            if each.startswith(word):
                yield Completion(each, start_position=-len(word), display=printable(each))

    def _found(self, before: list[str], word: str) -> list[str]:
        is_key = bool(before) and (
            before[0] in _ALL_KEYS or (before[0] in _FIRST_KEY and len(before) == 1)
        )
        if is_key and not word.startswith("-"):
            return keys(self._url, word)
        return self._names(before)


def keys(url: str, prefix: str) -> list[str]:
    """Return the first keys that begin with `prefix` and that can be typed as they are."""
    path = f"/kv/scan?limit={_MOST_KEYS}&prefix={quote(prefix, safe='')}"
    try:
        found: Any = json.loads(call("GET", url, path, timeout_seconds=_ANSWER_SECONDS).body)
        return [key for key in map(str, found["keys"]) if _PLAIN.fullmatch(key)]
    except (CallFailed, ValueError, KeyError, TypeError):
        return []
