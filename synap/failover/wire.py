"""One HTTP request to an engine, on a connection of its own, by the standard library."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

_MAX_ANSWER_BYTES = 4 * 1024 * 1024


def exchange(
    endpoint: str,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    seconds: float,
    tls: ssl.SSLContext | None,
) -> tuple[int, bytes]:
    """Send a request; return the status and the content, of which 4 MiB at most.

    Args:
        endpoint: Scheme, host and port.
        method: As in HTTP.
        path: With the query.
        body: None for none.
        headers: What is sent with it.
        seconds: How long each step of it may take.
        tls: For https; None for the system's authorities.

    Raises:
        OSError, http.client.HTTPException: there is no whole answer.
    """
    parts = urlsplit(endpoint)
    host = cast(str, parts.hostname)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = tls or ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=seconds)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER_BYTES)
    finally:
        connection.close()
