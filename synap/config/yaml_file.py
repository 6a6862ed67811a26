"""The configuration's file: YAML that says every key once, and no more than anybody writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

# A role for each of hundreds of users has room in it.
MAX_BYTES = 1024 * 1024
# Aliases make many of few, and one that contains itself makes them without end.
MAX_VALUES = 100_000
# To YAML 1.1, 016020 is 7184 and 1:30 is 90.
_OTHER_BASE = re.compile(r"[-+]?(0[0-9_]+|.*:.*)")


def read_yaml(path: Path) -> Any:
    """Return what the file at `path` holds.

    Raises:
        OSError: it can't be read.
        ValueError: it holds no such YAML; the message says where and why.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    try:
        values = yaml.load(content.decode("utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(_words_for(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    _check_number(values)
    return values


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: of two, the last would win in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """See yaml.composer.Composer."""
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                problem = f"the key {key.value!r} stands twice"
                raise ComposerError(None, None, problem, key.start_mark)
            if name is not None:
                seen.add(name)
        return node


def _plain_int(loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    if _OTHER_BASE.fullmatch(text):
        problem = "a whole number is written without a zero before it, and without colons"
        raise ConstructorError(None, None, problem, node.start_mark)
    return loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _plain_int)


def _words_for(error: yaml.YAMLError) -> str:
    """Return where and why, without the text there: it may be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"it is no YAML ({type(error).__name__})"
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"


def _check_number(values: Any) -> None:
    """Raise ValueError where it is more than MAX_VALUES, each counted as often as it stands."""
    left, waiting = MAX_VALUES, [values]
    while waiting:
        value = waiting.pop()
        children = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            left -= len(value)
            if left < 0:
                raise ValueError(f"it comes to more than {MAX_VALUES} values")
            waiting.extend(children)
