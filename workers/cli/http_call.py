"""A call to a running node's HTTP API, for the command line."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from synap.login_environment import HINT, login_headers
from synap.tls import CLIENT_CERTIFICATE_VARIABLE, client_context

# A node answers when the work is done, which takes minutes where the store is large.
_TIMEOUT_SECONDS = 3600.0


class CallFailed(OSError):
    """The node could not be reached, or refused; the message says which and why."""


class CallRefused(CallFailed):
    """The node answered, and with an error."""


def has_credentials(environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether the calls show the node who asks.

    Raises:
        ConfigInvalid: as `login_headers`.
    """
    return bool(login_headers(environ) or environ.get(CLIENT_CERTIFICATE_VARIABLE))


def post(
    url: str,
    path: str,
    body: dict[str, Any] | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """Send a POST to the node at `url`, empty without a body, and return its answer.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no answer.
    """
    data = b"" if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method="POST")
    return _send(request, timeout_seconds)


def get(url: str, path: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> dict[str, Any]:
    """Send a GET to the node at `url` and return its answer.

    Raises:
        CallRefused: it answered with an error.
        CallFailed: there was no answer.
    """
    return _send(urllib.request.Request(url.rstrip("/") + path), timeout_seconds)


def _send(request: urllib.request.Request, timeout_seconds: float) -> dict[str, Any]:
    for name, value in login_headers().items():
        # Where an answer leads elsewhere, they stay here.
        request.add_unredirected_header(name, value)
    try:
        tls = client_context() if request.type == "https" else None
        with urllib.request.urlopen(request, timeout=timeout_seconds, context=tls) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            raise CallRefused(f"{request.full_url}: {_message_of(error)}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise CallFailed(f"{request.full_url} does not answer: {error}") from error


def _message_of(error: urllib.error.HTTPError) -> str:
    if error.code == http.HTTPStatus.UNAUTHORIZED:
        return HINT
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return str(error)
