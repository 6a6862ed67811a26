"""Whether the nodes that run here are healthy: the check of containers and of `synap health`.

A node leaves its address in a file of its run directory when it starts. The check reads it there
instead of the configuration, whose libraries cost half a second of CPU to load: it runs every few
seconds for as long as the container does. It uses the standard library alone. Where the node wants
to see a certificate, SYNAP_CLIENT_CERT and SYNAP_CLIENT_KEY name one, as for the command line.

    python -m workers.health [URL]

Exit codes: 0 healthy; 1 not, with the reason on the standard output.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

from synap.config.variables import CLIENT_CERTIFICATE_VARIABLE, CLIENT_KEY_VARIABLE
from synap.node.paths import HTTP_SOCKET, runs_dir
from workers.printable import printable

ADDRESS_FILE = "url"
_ANSWER_SECONDS = 4.0
_MAX_ANSWER_BYTES = 64 * 1024


def write_address(run_dir: Path, url: str) -> None:
    """Leave the address of the node of `run_dir` for the checks to come.

    Args:
        run_dir: The node's; exists.
        url: Where this machine reaches the node's HTTP.
    """
    (run_dir / ADDRESS_FILE).write_text(url, encoding="utf-8")


def addresses(folder: Path) -> list[tuple[str, Path | None]]:
    """Return where the nodes below `folder` said that they listen, in a fixed order.

    Returns:
        The URL of each, and the socket that it has for this check alone, if any.
    """
    found = []
    for file in sorted(folder.glob(f"*/{ADDRESS_FILE}")):
        socket_path = file.with_name(HTTP_SOCKET)
        own = socket_path if socket_path.is_socket() else None
        found.append((file.read_text(encoding="utf-8"), own))
    return found


def check(url: str, own: Path | None = None) -> tuple[bool, str]:
    """Ask the node at `url` for its health.

    Args:
        url: Where it listens.
        own: The socket that it has for this check.

    Returns:
        Whether it is healthy, and a line for people.
    """
    parts = urlsplit(url)
    try:
        if own is not None:
            connection: http.client.HTTPConnection = _LocalConnection(own)
        else:
            connection = _connect(parts.scheme, parts.netloc)
    except OSError as error:
        return False, printable(f"{CLIENT_CERTIFICATE_VARIABLE}: no certificate with key: {error}")
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        facts = json.loads(answer.read(_MAX_ANSWER_BYTES))
        told = ", ".join(facts.get("reasons", [])) or facts.get("status", "no status")
        refuses = facts.get("read_only") or facts.get("acknowledges_no_writes")
        told += f", takes no writes: {refuses}" if refuses else ""
        words = f"{facts.get('role', 'node')} at {url}: {told}"
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        why = str((isinstance(error, OSError) and error.strerror) or error)
        return False, printable(f"{url} does not answer: {why}")
    except (AttributeError, TypeError):
        return False, printable(f"{url} does not answer as a Synap node does")
    finally:
        connection.close()
    return answer.status == 200, printable(words)


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ANSWER_SECONDS)
        self.sock.connect(str(self._path))


def _connect(scheme: str, host: str) -> http.client.HTTPConnection:
    if scheme != "https":
        return http.client.HTTPConnection(host, timeout=_ANSWER_SECONDS)
    # The certificate is the node's own, for the name that its clients use; the check asks for an
    # answer from this machine, not for a proof of who gives it.
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    certificate = os.environ.get(CLIENT_CERTIFICATE_VARIABLE)
    if certificate:
        # A password would be asked for on the terminal.
        unverified.load_cert_chain(
            certificate, os.environ.get(CLIENT_KEY_VARIABLE) or None, password=""
        )
    return http.client.HTTPSConnection(host, timeout=_ANSWER_SECONDS, context=unverified)


def main() -> int:
    """Check the node of the command line, or every node of this user's run directory."""
    named = [(url, None) for url in sys.argv[1:]]
    nodes = named or addresses(runs_dir())
    if not nodes:
        print(f"no node has started: there is no address below {runs_dir()}")
        return 1
    results = [check(url, own) for url, own in nodes]
    for _, told in results:
        print(told)
    return 0 if all(is_healthy for is_healthy, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
