"""Each call of the typed client as one value: what is sent, and what its answer gives.

Both clients, with and without asyncio, send these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from synap_client.errors import PositionLost, Refused, ResultNotKept, SynapClientError

Json: TypeAlias = Any
"""What `json.dumps` takes."""
Result = TypeVar("Result")

_JSON = {"Content-Type": "application/json"}
_MISSING, _CONDITION_FAILED = 404, 412
_REASONS_OF_RESULTS = ("key_not_found", "precondition_failed")


@dataclass(frozen=True, slots=True)
class Command(Generic[Result]):
    """One request and the way to read its answer.

    Attributes:
        method, path, params, body, headers: Of the request.
        read: Gives the result of an answer below 400, or of one in `also`.
        also: Statuses that are results, not errors.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], Result]
    params: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    also: tuple[int, ...] = ()

    def result_of(self, response: httpx.Response) -> Result:
        """Return what an answer gives.

        Raises:
            Refused: it is an error.
            ResultNotKept: it was done before, and its result is not known any more.
            SynapClientError: no node of Synap answers like that.
        """
        status = response.status_code
        is_result = status in self.also and _reason_of(response) in _REASONS_OF_RESULTS
        if status >= 400 and not is_result:
            raise refusal_of(response)
        if "idempotent-replayed" in response.headers and _was_not_kept(response):
            raise ResultNotKept("it was done before; its result was too long to be kept")
        try:
            return self.read(response)
        except (ValueError, KeyError, TypeError) as error:
            what = f"{self.method} {self.path}"
            raise SynapClientError(f"no node of Synap answers {what} like that") from error


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds.

    Attributes:
        data: The stored bytes.
        version: What names this state of the key; for `if_version`.
    """

    data: bytes
    version: str

    @property
    def text(self) -> str:
        """The stored text.

        Raises:
            UnicodeDecodeError: the bytes are none.
        """
        return self.data.decode()


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys of a scan, and where the next page begins; empty after the last."""

    keys: list[str]
    cursor: str


@dataclass(frozen=True, slots=True)
class TxnResult:
    """What a transaction did.

    Attributes:
        succeeded: Whether its conditions held, so that `then` was done and not `otherwise`.
        results: One for each part that was done, as docs/api.md has them.
    """

    succeeded: bool
    results: list[dict[str, Any]]


def refusal_of(response: httpx.Response) -> Refused:
    """Return an answer of 400 or more as the error that it is."""
    fields = _fields(response)
    message = str(fields.get("error") or response.reason_phrase)
    reason = str(fields.get("reason", ""))
    kind = PositionLost if reason == "position_lost" else Refused
    is_retryable = fields.get("retryable") is True
    return kind(message, response.status_code, reason, is_retryable=is_retryable)


def get(key: str) -> Command[Value | None]:
    """Read a key with its version."""

    def read(response: httpx.Response) -> Value | None:
        if response.status_code == _MISSING:
            return None
        return Value(response.content, response.headers.get("etag", "").strip('"'))

    return Command("GET", _raw(key), read, also=(_MISSING,))


def set_(
    key: str,
    value: Json,
    *,
    ttl: int | None,
    nx: bool,
    xx: bool,
    if_version: str | None,
) -> Command[bool]:
    """Write a key; the result says whether its conditions held."""
    fields: dict[str, Any] = {"key": key, "value": value}
    if ttl is not None:
        fields["ttl"] = ttl
    fields |= {name: True for name, wanted in (("nx", nx), ("xx", xx)) if wanted}
    if if_version is not None:
        fields["if_version"] = if_version
    return _post("/kv/set", fields, lambda answer: bool(answer["written"]))


def set_bytes(
    key: str, data: bytes, *, ttl: int | None, nx: bool, if_version: str | None
) -> Command[str | None]:
    """Write bytes; the result is their version, None where the condition did not hold."""

    def read(response: httpx.Response) -> str | None:
        failed = response.status_code == _CONDITION_FAILED
        return None if failed else str(response.json()["version"])

    headers = {"Content-Type": "application/octet-stream"}
    if nx:
        headers["If-None-Match"] = "*"
    if if_version is not None:
        headers["If-Match"] = f'"{if_version}"'
    params = [] if ttl is None else [("ttl", str(ttl))]
    return Command("PUT", _raw(key), read, params, data, headers, (_CONDITION_FAILED,))


def delete(key: str, *, if_version: str | None) -> Command[bool]:
    """Remove a key; the result says whether it was there, and had the version."""

    def read(response: httpx.Response) -> bool:
        failed = response.status_code == _CONDITION_FAILED
        return not failed and bool(response.json()["deleted"])

    headers = {} if if_version is None else {"If-Match": f'"{if_version}"'}
    return Command("DELETE", _raw(key), read, headers=headers, also=(_CONDITION_FAILED,))


def mget(keys: Iterable[str]) -> Command[list[str | None]]:
    """Read several keys."""
    return _post("/kv/mget", {"keys": list(keys)}, lambda answer: list(answer["values"]))


def mset(pairs: Mapping[str, Json], *, ttl: int | None) -> Command[None]:
    """Write several keys as one."""
    more = {} if ttl is None else {"ttl": ttl}
    listed = [{"key": key, "value": value, **more} for key, value in pairs.items()]
    return _post("/kv/mset", {"pairs": listed}, lambda answer: None)


def incr(key: str, amount: int) -> Command[int]:
    """Add to a key; the result is the sum."""
    return _post("/kv/incr", {"key": key, "amount": amount}, lambda answer: int(answer["value"]))


def scan(prefix: str, pattern: str, cursor: str, page_size: int) -> Command[Page]:
    """Read one page of keys."""

    def read(response: httpx.Response) -> Page:
        answer = response.json()
        return Page(answer["keys"], answer["cursor"] if answer["has_more"] else "")

    given = (("prefix", prefix), ("pattern", pattern), ("cursor", cursor))
    params = [("limit", str(page_size)), *((name, text) for name, text in given if text)]
    return Command("GET", "/kv/scan", read, params)


def txn(
    conditions: Iterable[Mapping[str, Any]],
    then: Iterable[Mapping[str, Any]],
    otherwise: Iterable[Mapping[str, Any]],
) -> Command[TxnResult]:
    """Do several things at once, by conditions."""
    fields = {"if": list(conditions), "then": list(then), "else": list(otherwise)}
    return _post(
        "/kv/txn", fields, lambda answer: TxnResult(bool(answer["succeeded"]), answer["results"])
    )


def _post(
    path: str, fields: Mapping[str, Any], read: Callable[[dict[str, Any]], Result]
) -> Command[Result]:
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return Command("POST", path, lambda response: read(response.json()), (), body, _JSON)


def _raw(key: str) -> str:
    # A dot alone is a step in a path.
    name = key.replace(".", "%2E") if key in (".", "..") else quote(key, safe="")
    return f"/raw/{name}"


def _reason_of(response: httpx.Response) -> str:
    return str(_fields(response).get("reason", "")) if response.status_code >= 400 else ""


def _was_not_kept(response: httpx.Response) -> bool:
    return _fields(response).get("replayed_without_result") is True


def _fields(response: httpx.Response) -> dict[str, Any]:
    try:
        fields = response.json()
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
