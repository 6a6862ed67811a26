"""A configuration that was checked already, handed from a node's supervisor to its children.

To read and check one costs a process 0.3 s of CPU, most of it for the imports, and every second
counts while a node starts again. So the supervisor puts the values in effect into a file in memory
that its children have open, and a child takes them as long as they are made of the same files;
else, and where it was started by hand, it reads the configuration by itself. Either way it gets
what `synap.config.loading` would give it now: Gunicorn's HUP sees a changed file.

The secrets go the same way and no other: an environment is handed on to every child of a child, and
stands in dumps and in `/proc`. A child's own children do not get the file.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec

from synap.config.keys import Config, Secret
from synap.config.variables import FILE_VARIABLE, HANDED_VARIABLE, PREFIX, SECRET_FILE_SUFFIX

_MEMORY_FILE = "synap-config"
# Of the command line, in whose environment a node may have been started.
_CREDENTIALS = ("SYNAP_PASSWORD", "SYNAP_API_KEY")
_CODE = [Path(__file__).with_name(name) for name in ("loading.py", "checks.py", "keys.py")]


class _Handed(msgspec.Struct, frozen=True, array_like=True):
    """Values, and what a child needs where they are no longer what the files say.

    Attributes:
        sources: Tells whether they are.
        config: The values, which are read after that: other code may have other keys.
        secrets: What was taken out of the environment.
    """

    sources: list[list[str | int]]
    config: msgspec.Raw
    secrets: dict[str, str]


def config_of_environment(environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that `load_config` would read from the environment.

    Raises:
        ConfigInvalid: it has faults.
    """
    handed = _received(environ.get(HANDED_VARIABLE, ""))
    if handed:
        given = msgspec.json.decode(handed, type=_Handed)
        if given.sources == _sources(environ.get(FILE_VARIABLE), environ):
            return msgspec.json.decode(given.config, type=Config, dec_hook=_decoded)
        environ = {**environ, **given.secrets}
    load_config = importlib.import_module("synap.config.loading").load_config
    return cast(Config, load_config(None, None, environ))


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
    values = msgspec.Raw(msgspec.json.encode(config, enc_hook=_encoded))
    content = msgspec.json.encode(_Handed(_sources(file, environment), values, secrets))
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


def _sources(file: str | None, environ: Mapping[str, str]) -> list[list[str | int]]:
    """Return what tells whether the files are still those that the values were made of."""
    secrets = [
        Path(environ[name])
        for name in sorted(environ)
        if name.startswith(PREFIX) and name.endswith(SECRET_FILE_SUFFIX)
    ]
    paths = [*_CODE, *([Path(file)] if file else []), *secrets]
    found: list[list[str | int]] = []
    for path in paths:
        try:
            facts = path.stat()
        except OSError:
            found.append([str(path)])
        else:
            found.append([str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns])
    return found


def _encoded(value: Path | Secret) -> str:
    return value.get_secret_value() if isinstance(value, Secret) else str(value)


def _decoded(kind: type, text: str) -> Path | Secret:
    return Secret(text) if kind is Secret else Path(text)
