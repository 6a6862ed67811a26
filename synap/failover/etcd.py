"""A client of etcd's v3 API by its JSON gateway: what elections need, and no more.

One call is one request on a connection of its own, with a deadline over all endpoints; the one that
answered last is asked first. Keys and values are base64 there, and numbers are texts.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from synap.failover.engine import Delete, EngineFailed, Item, Put, Unchanged
from synap.failover.wire import exchange

_LEAST_SECONDS = 0.05
_SHOWN_BYTES = 200
# The gateway is at /v3 from here on.
_LEAST_VERSION = (3, 4)
_BAD_TOKEN = 16
_NOT_FOUND = 5


class _Refused(EngineFailed):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Etcd:
    """The client. Its calls block, each for `timeout_seconds` at most."""

    def __init__(
        self,
        endpoints: Sequence[str],
        timeout_seconds: float,
        *,
        tls: ssl.SSLContext | None = None,
        user: str = "",
        password: str = "",
    ) -> None:
        """
        Args:
            endpoints: Client URLs of the members, at least one.
            timeout_seconds: Deadline of one call.
            tls: For https; None for the system's authorities.
            user: Empty for no login.
            password: That user's.
        """
        self._endpoints = list(endpoints)
        self._timeout_seconds = timeout_seconds
        self._tls = tls
        self._login = {"name": user, "password": password} if user else None
        self._token = ""
        self._is_checked = False

    def grant(self, ttl_seconds: int) -> tuple[int, int]:
        """Return a new lease and for how many seconds it was granted, which may be others."""
        answer = self._call("/v3/lease/grant", {"TTL": str(ttl_seconds)})
        return int(answer["ID"]), int(answer["TTL"])

    def keep_alive(self, lease: int) -> int:
        """Renew a lease; return for how many seconds, 0 where it is gone."""
        answer = self._call("/v3/lease/keepalive", {"ID": str(lease)})
        # One that is gone is answered by 200, and without a TTL.
        return int(answer.get("result", {}).get("TTL", 0))

    def revoke(self, lease: int) -> None:
        """End a lease, with all keys that are bound to it."""
        try:
            self._call("/v3/lease/revoke", {"ID": str(lease)})
        except _Refused as error:
            if error.code != _NOT_FOUND:
                raise

    def read(self, *spans: tuple[str, str]) -> dict[str, Item]:
        """Return what is there from each first key up to, and without, the second, of one state."""
        ranges = [
            {"request_range": {"key": _text(first), "range_end": _text(end)}}
            for first, end in spans
        ]
        answer = self._call("/v3/kv/txn", {"success": ranges})
        found = {}
        for each in answer.get("responses", []):
            for pair in each.get("response_range", {}).get("kvs", []):
                found[b64decode(pair["key"]).decode()] = Item(
                    b64decode(pair.get("value", "")), int(pair["create_revision"]),
                    int(pair["mod_revision"]), int(pair.get("lease", 0)),
                )  # fmt: skip
        return found

    def change(self, conditions: Sequence[Unchanged], effects: Sequence[Put | Delete]) -> bool:
        """Have all effects take place where all conditions hold; say whether they did."""
        compare = [
            {
                "key": _text(each.key), "target": "MOD", "result": "EQUAL",
                "mod_revision": str(each.revision),
            }
            for each in conditions
        ]  # fmt: skip
        answer = self._call(
            "/v3/kv/txn", {"compare": compare, "success": [_effect(each) for each in effects]}
        )
        return bool(answer.get("succeeded", False))

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_seconds
        failures = []
        for at in range(len(self._endpoints)):
            left = deadline - time.monotonic()
            seconds = max(left / (len(self._endpoints) - at), _LEAST_SECONDS)
            endpoint = self._endpoints[0]
            try:
                return self._ask(endpoint, path, body, seconds)
            except _Refused:
                raise
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures.append(f"{endpoint}: {error or type(error).__name__}")
                self._endpoints.append(self._endpoints.pop(0))
        raise EngineFailed("; ".join(failures))

    def _ask(
        self, endpoint: str, path: str, body: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        if not self._is_checked:
            self._check_version(endpoint, seconds)
        if self._login and not self._token:
            self._authenticate(endpoint, seconds)
        try:
            return self._send(endpoint, path, body, seconds)
        except _Refused as error:
            if error.code != _BAD_TOKEN or not self._login:
                raise
        self._authenticate(endpoint, seconds)
        return self._send(endpoint, path, body, seconds)

    def _check_version(self, endpoint: str, seconds: float) -> None:
        version = str(self._send(endpoint, "/version", None, seconds).get("etcdserver", ""))
        numbers = tuple(int(each) for each in version.split(".")[:2] if each.isdigit())
        if numbers < _LEAST_VERSION:
            raise EngineFailed(f"etcd {version or 'of an unknown version'}; 3.4 or later is needed")
        self._is_checked = True

    def _authenticate(self, endpoint: str, seconds: float) -> None:
        self._token = ""
        answer = self._send(endpoint, "/v3/auth/authenticate", self._login, seconds)
        self._token = str(answer["token"])

    def _send(
        self, endpoint: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        return _decoded(*exchange(endpoint, method, path, content, headers, seconds, self._tls))


def _decoded(status: int, content: bytes) -> dict[str, Any]:
    """Return the object of an answer; raise what an endpoint refuses.

    Raises:
        _Refused: what was asked is refused, at every endpoint.
        EngineFailed: this endpoint can't answer now.
        ValueError: it is no answer of etcd's.
    """
    # A refusal may have none.
    found: Any = None if status == http.client.OK else {}
    with suppress(ValueError, RecursionError):
        # A stream's answers are a line each.
        found = json.loads(content.split(b"\n", 1)[0] or b"{}")
    if not isinstance(found, dict):
        raise ValueError("its answer is no object")
    if status == http.client.OK and "error" not in found:
        return found
    error = found.get("error", "")
    message = error if isinstance(error, str) else str(error.get("message", error))
    # Where the gateway itself refuses, it says so in plain text.
    message = message or content[:_SHOWN_BYTES].decode(errors="replace").strip()
    code = found.get("code", 0) or (error.get("grpc_code", 0) if isinstance(error, dict) else 0)
    if code in (_NOT_FOUND, _BAD_TOKEN) or 3 <= code <= 9:
        raise _Refused(message, code)
    raise EngineFailed(f"{status} {message}")


def _effect(effect: Put | Delete) -> dict[str, Any]:
    if isinstance(effect, Delete):
        return {"request_delete_range": {"key": _text(effect.key)}}
    put = {"key": _text(effect.key), "value": b64encode(effect.value).decode()}
    if effect.lease:
        put["lease"] = str(effect.lease)
    return {"request_put": put}


def _text(key: str) -> str:
    return b64encode(key.encode()).decode()
