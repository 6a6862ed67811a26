"""Names of the variables of the environment that say how a process is configured."""

from __future__ import annotations

PREFIX = "SYNAP_"
FILE_VARIABLE = "SYNAP_CONFIG"
# Set by a supervisor for its children: `synap.config.handed`.
HANDED_VARIABLE = "SYNAP_HANDED_CONFIG"
# Behind a variable of a secret: names the file that holds it.
SECRET_FILE_SUFFIX = "_FILE"


def variable_of(key: str) -> str:
    """Return the environment variable that sets `key`: SYNAP_SERVER__PORT for server.port."""
    return PREFIX + key.replace(".", "__").upper()
