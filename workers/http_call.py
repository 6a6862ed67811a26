"""A call to a running node's HTTP API, for the command line."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

# A node answers when the work is done, which takes minutes where the store is large.
_TIMEOUT_SECONDS = 3600.0


class CallFailed(Exception):
    """The node could not be reached, or refused; the message says which and why."""


def post(url: str, path: str) -> dict[str, Any]:
    """Send an empty POST to the node at `url` and return its answer.

    Raises:
        CallFailed: there was no answer, or an error.
    """
    request = urllib.request.Request(url.rstrip("/") + path, data=b"", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            raise CallFailed(f"{url}{path}: {_message_of(error)}") from error
    except (OSError, ValueError) as error:
        raise CallFailed(f"{url} does not answer: {error}") from error


def _message_of(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return str(error)
