"""A small HTTP client for the programs in this folder: one kept-alive connection to one node.

It is not safe for several threads at once; each thread makes its own. It retries nothing, because
only the caller knows whether a request may be sent twice.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit


class Answer(NamedTuple):
    """What came back for one request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class UnexpectedAnswer(Exception):
    """The node answered with something other than 200."""

    def __init__(self, method: str, path: str, answer: Answer) -> None:
        self.answer = answer
        text = answer.body[:300].decode("utf-8", "replace")
        super().__init__(f"{method} {path} answered {answer.status}: {text}")


class Client:
    """One connection to the node at `url`, opened by the first request and after a failure."""

    def __init__(self, url: str, timeout_seconds: float = 30, ca_file: str = "") -> None:
        """
        Args:
            ca_file: Whose certificates are believed; empty for http:// alone.
        """
        self.url = url.rstrip("/")
        address = urlsplit(self.url)
        scheme = "https" if ca_file else "http"
        if address.scheme != scheme or not address.hostname:
            raise ValueError(f"{url} is not of the form {scheme}://host:port")
        self._connection: http.client.HTTPConnection
        if ca_file:
            self._connection = http.client.HTTPSConnection(
                address.hostname, address.port or 443, timeout=timeout_seconds,
                context=ssl.create_default_context(cafile=ca_file),
            )  # fmt: skip
        else:
            self._connection = http.client.HTTPConnection(
                address.hostname, address.port or 80, timeout=timeout_seconds
            )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and read its whole answer, whatever its status.

        Raises:
            OSError, http.client.HTTPException: no whole answer came; the connection is closed.
        """
        sent = {} if body is None else {"Content-Type": "application/json"}
        try:
            self._connection.request(method, path, body, {**sent, **(headers or {})})
            response = self._connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def send(self, method: str, path: str, document: Any) -> Answer:
        """Send `document` as JSON; otherwise as `request`."""
        return self.request(method, path, json.dumps(document).encode())

    def get(self, path: str) -> Any:
        """Return the JSON of a GET.

        Raises:
            UnexpectedAnswer: the status is not 200.
        """
        return _expected("GET", path, self.request("GET", path))

    def post(self, path: str, document: Any) -> Any:
        """Send `document` as JSON and return the answer's JSON.

        Raises:
            UnexpectedAnswer: the status is not 200.
        """
        return _expected("POST", path, self.send("POST", path, document))

    def value(self, key: str) -> Any:
        """Return the text stored under `key`.

        Raises:
            UnexpectedAnswer: the status is not 200, as where there is no such key.
        """
        return self.get(f"/kv/get/{quote(key, safe='')}")


def _expected(method: str, path: str, answer: Answer) -> Any:
    if answer.status != 200:
        raise UnexpectedAnswer(method, path, answer)
    return answer.json()
