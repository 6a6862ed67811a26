"""Names of the variables of the environment that say how a process is configured."""

from __future__ import annotations

PREFIX = "SYNAP_"
FILE_VARIABLE = "SYNAP_CONFIG"
# Set by a supervisor for its children: `synap.config.handed`.
HANDED_VARIABLE = "SYNAP_HANDED_CONFIG"
# Behind a variable of a secret: names the file that holds it.
SECRET_FILE_SUFFIX = "_FILE"
# Of the command line: authorities that it checks nodes by, what it shows them, and 1 for no check.
CA_VARIABLE = "SYNAP_CA_CERT"
CLIENT_CERTIFICATE_VARIABLE = "SYNAP_CLIENT_CERT"
CLIENT_KEY_VARIABLE = "SYNAP_CLIENT_KEY"
INSECURE_VARIABLE = "SYNAP_INSECURE"


# All that are no keys, those of the command line and of the processes among themselves too.
OTHER_VARIABLES = frozenset({
    FILE_VARIABLE, HANDED_VARIABLE, CA_VARIABLE, CLIENT_CERTIFICATE_VARIABLE, CLIENT_KEY_VARIABLE,
    INSECURE_VARIABLE, "SYNAP_URL", "SYNAP_USER", "SYNAP_PASSWORD", "SYNAP_PASSWORD_FILE",
    "SYNAP_API_KEY", "SYNAP_API_KEY_FILE", "SYNAP_RUN_DIR", "SYNAP_WORKER_CLASS",
    "SYNAP_SUPERVISOR_PID",
})  # fmt: skip


def variable_of(key: str) -> str:
    """Return the environment variable that sets `key`: SYNAP_SERVER__PORT for server.port."""
    return PREFIX + key.replace(".", "__").upper()
