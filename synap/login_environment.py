"""The credentials that this machine's commands send to nodes, from the environment.

    SYNAP_API_KEY or SYNAP_API_KEY_FILE                   a key
    SYNAP_USER with SYNAP_PASSWORD or SYNAP_PASSWORD_FILE  a user

A key comes before a user. The command line's options set the same variables, so that every call of
a command finds them here.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from synap.config.variables import SECRET_FILE_SUFFIX
from synap.errors import ConfigInvalid

API_KEY = "SYNAP_API_KEY"
USER = "SYNAP_USER"
PASSWORD = "SYNAP_PASSWORD"
HINT = (
    f"credentials are missing or wrong; set {API_KEY}, or {USER} and {PASSWORD}{SECRET_FILE_SUFFIX}"
    ". Where a password is forgotten: `synap user password --help`"
)


def login_headers(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the headers that say who asks; none without credentials.

    Raises:
        ConfigInvalid: a file can't be read, or a user has no password.
    """
    key = _secret(environ, API_KEY)
    if key is not None:
        return {"Authorization": f"Bearer {key}"}
    user = environ.get(USER)
    if not user:
        return {}
    password = _secret(environ, PASSWORD)
    if password is None:
        raise ConfigInvalid(
            [f"{USER} is set; set {PASSWORD} or {PASSWORD}{SECRET_FILE_SUFFIX} too"]
        )
    pair = b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _secret(environ: Mapping[str, str], variable: str) -> str | None:
    path = environ.get(variable + SECRET_FILE_SUFFIX)
    if not path:
        return environ.get(variable) or None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(
            [f"{variable}{SECRET_FILE_SUFFIX}: {path} can't be read: {error}"]
        ) from error
