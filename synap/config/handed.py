"""A configuration that was checked already, handed from a node's supervisor to its children.

To read and check one costs a process 0.3 s of CPU, most of it for the imports, and every second
counts while a node starts again. So the supervisor puts the values in effect into a file in memory
that its children have open, and a child takes them as long as they are made of the same files;
else, and where it was started by hand, it reads the configuration by itself. Either way it gets
what `synap.config.loading` would give it now: Gunicorn's HUP sees a changed file.

The secrets go the same way and no other: an environment is handed on to every child of a child, and
stands in dumps and in `/proc`. A child's own children do not get the file.

Modules that a child imports take the type `Config` from `synap.config.loading` for the type checker
alone.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from synap.config.variables import FILE_VARIABLE, HANDED_VARIABLE, PREFIX, SECRET_FILE_SUFFIX

if TYPE_CHECKING:
    from synap.config.loading import Config

_MEMORY_FILE = "synap-config"
# Of the command line, in whose environment a node may have been started.
_CREDENTIALS = ("SYNAP_PASSWORD", "SYNAP_API_KEY")
_CODE = [Path(__file__).with_name(name) for name in ("loading.py", "keys.py")]
# Mark a path, a secret, and a table whose keys are the operator's own, among the values; no section
# has a key of these names.
_PATH, _SECRET, _TABLE = "path:", "secret:", "table:"


class Secret:
    """A secret, which no representation shows; as pydantic's."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret('**********')"

    def get_secret_value(self) -> str:
        """Return what nobody is to see."""
        return self._value


class Values:
    """One section: the attributes that the section of a `Config` has, properties among them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        vars(self).update(values)

    def model_copy(self, *, update: Mapping[str, Any]) -> Values:
        """Return a copy with some values changed, as that of a section does."""
        return Values({**vars(self), **update})


def config_of_environment(environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that `load_config` would read from the environment.

    Raises:
        ConfigInvalid: it has faults.
    """
    handed = _received(environ.get(HANDED_VARIABLE, ""))
    if handed:
        sources, values, secrets = msgspec.json.decode(handed)
        if sources == _sources(environ.get(FILE_VARIABLE), environ):
            return cast("Config", _decoded(values))
        environ = {**environ, **secrets}
    return cast(
        "Config", importlib.import_module("synap.config.loading").load_config(None, None, environ)
    )


def hand_over(config: Config, path: Path | None, environment: dict[str, str]) -> int:
    """Write a configuration into a file in memory, and have `environment` name that.

    Args:
        config: What is handed over.
        path: The file that it was made of, if any.
        environment: That of the children, who must get the returned descriptor under its number;
            every secret is taken out of it.
    """
    loading = importlib.import_module("synap.config.loading")
    for name in _CREDENTIALS:
        environment.pop(name, None)
    names = environment.keys() & set(loading.secret_variables())
    secrets = {name: environment.pop(name) for name in names}
    file = str(path.absolute()) if path is not None else None
    content = msgspec.json.encode(
        [
            _sources(file, environment),
            _encoded(config),
            secrets,
        ]
    )
    descriptor = os.memfd_create(_MEMORY_FILE)
    os.pwrite(descriptor, content, 0)
    environment[HANDED_VARIABLE] = str(descriptor)
    return descriptor


def _received(named: str) -> bytes:
    """Return what the file in memory holds; nothing where this process has not got it."""
    try:
        descriptor = int(named)
        # In a program that was started anew, the number may stand for another file.
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"/memfd:{_MEMORY_FILE}"):
            return b""
        os.set_inheritable(descriptor, False)
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    except (ValueError, OSError):
        return b""


def _sources(file: str | None, environ: Mapping[str, str]) -> list[Any]:
    """Return what tells whether the files are still those that the values were made of."""
    secrets = [
        Path(environ[name])
        for name in sorted(environ)
        if name.startswith(PREFIX) and name.endswith(SECRET_FILE_SUFFIX)
    ]
    paths = [*_CODE, *([Path(file)] if file else []), *secrets]
    found: list[list[Any]] = []
    for path in paths:
        try:
            facts = path.stat()
        except OSError:
            found.append([str(path)])
        else:
            found.append([str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns])
    return found


def _encoded(value: Any) -> Any:
    if isinstance(value, Path):
        return {_PATH: str(value)}
    if hasattr(value, "get_secret_value"):
        return {_SECRET: value.get_secret_value()}
    if isinstance(value, tuple):
        return [_encoded(each) for each in value]
    if isinstance(value, dict):
        return {_TABLE: {key: _encoded(each) for key, each in value.items()}}
    fields = getattr(type(value), "model_fields", None)
    if fields is None:
        return value
    classes = [each for each in type(value).__mro__ if each.__module__.startswith("synap.")]
    derived = [name for each in classes for name in vars(each) if _is_property(each, name)]
    return {name: _encoded(getattr(value, name)) for name in (*fields, *derived)}


def _is_property(owner: type, name: str) -> bool:
    return isinstance(vars(owner)[name], property)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_decoded, value))
    if not isinstance(value, dict):
        return value
    if _PATH in value:
        return Path(value[_PATH])
    if _SECRET in value:
        return Secret(value[_SECRET])
    if _TABLE in value:
        return {key: _decoded(each) for key, each in value[_TABLE].items()}
    return Values({name: _decoded(part) for name, part in value.items()})
