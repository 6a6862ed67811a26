"""What an answer means for a request that may be sent again.

Source: docs/api.md of Synap, "Errors".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

_READ_ONLY = "Read-only replica: "
_POSITION_LOST = "position_lost"
_ELSEWHERE = {"read_only_replica", "stale_epoch"}
_UNKNOWN = {"outcome_unknown", "quorum_timeout"}
# What the next moment may change. A full disk, and a transaction that is lost, are not among them:
# the node says `retryable` of these too, but it is for the caller to decide.
_LATER = {
    "writer_unavailable", "writes_paused", "recovering", "data_dir_lost", "starting", "syncing",
    "not_caught_up", "not_held", "request_timeout", "exports_running", "rate_limited",
    "too_many_logins", "share_taken",
}  # fmt: skip
_GATEWAYS = (502, 504)
_MOST_RETRY_AFTER_SECONDS = 5.0


class Verdict(Enum):
    """What is to be done about an answer."""

    FINAL = auto()
    """Hand it to the caller."""
    ELSEWHERE = auto()
    """Nothing was done: the node is not the master."""
    LATER = auto()
    """Nothing was done, and it may be soon, here or elsewhere."""
    UNKNOWN = auto()
    """It may have been done."""
    UNFIT = auto()
    """This node can't tell; another one may."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What counts of an answer.

    Attributes:
        status: Of HTTP.
        reason: The word for an error; empty where there is none.
        is_retryable: What the node says about the error.
        master: The URL that the node names as the master's; empty where it names none.
        position: The place in the log that was written or read; empty where none is told.
        lag_ms: How old a replica's data may be; None at a master, or where none is told.
        retry_after_seconds: What the node asks to be waited for, at most five seconds.
        is_refused_command: Whether it is 200 with commands that a replica refused.
    """

    status: int
    reason: str = ""
    is_retryable: bool = False
    master: str = ""
    position: str = ""
    lag_ms: int | None = None
    retry_after_seconds: float = 0.0
    is_refused_command: bool = False

    @property
    def is_position_lost(self) -> bool:
        """Whether the position that was asked for is no part of the node's log."""
        return self.reason == _POSITION_LOST


def answer_of(
    status: int, headers: Mapping[str, str], body: bytes, *, is_command: bool = False
) -> Answer:
    """Take from an answer what counts.

    Args:
        status: Of HTTP.
        headers: By their names in small letters.
        body: The whole body; empty for an answer that is handed on as it comes.
        is_command: Whether it answers commands, whose errors have the status 200 too.
    """
    fields = _fields(body) if status >= 400 or is_command else {}
    refusal = _refusal(fields) if is_command and status == 200 else ""
    return Answer(
        status,
        reason=str(fields.get("reason", "")) if status >= 400 else "",
        is_retryable=fields.get("retryable") is True,
        master=headers.get("x-synap-master", "") or refusal.rpartition(" ")[2],
        position=headers.get("x-synap-position", ""),
        lag_ms=_whole(headers.get("x-synap-lag-ms")),
        retry_after_seconds=min(
            float(_whole(headers.get("retry-after")) or 0), _MOST_RETRY_AFTER_SECONDS
        ),
        is_refused_command=bool(refusal),
    )


def verdict_of(answer: Answer, *, is_read: bool, max_lag_ms: int | None) -> Verdict:
    """Say what is to be done about an answer.

    Args:
        answer: What the node said.
        is_read: Whether data was read.
        max_lag_ms: How old what a replica tells may be; None where anything goes.
    """
    # An answer to HEAD has no words.
    is_misdirected = answer.status == 421 and not answer.reason
    if answer.is_refused_command or is_misdirected or answer.reason in _ELSEWHERE:
        return Verdict.ELSEWHERE
    if answer.reason in _UNKNOWN:
        return Verdict.UNKNOWN
    if answer.reason in _LATER:
        return Verdict.LATER
    if answer.reason == "overloaded":
        return Verdict.LATER if answer.is_retryable else Verdict.UNKNOWN
    if answer.status in _GATEWAYS or (answer.status == 503 and not answer.reason):
        return Verdict.UNKNOWN
    if not is_read:
        return Verdict.FINAL
    if answer.status == 500 or answer.is_position_lost:
        return Verdict.UNFIT
    is_too_old = max_lag_ms is not None and answer.lag_ms is not None and answer.lag_ms > max_lag_ms
    return Verdict.LATER if is_too_old else Verdict.FINAL


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _refusal(fields: Mapping[str, Any]) -> str:
    """Return the error of the first command that a replica refused."""
    results = fields.get("results")
    envelopes = results if isinstance(results, list) else [fields]
    errors = (each.get("error") for each in envelopes if isinstance(each, dict))
    return next((e for e in errors if isinstance(e, str) and e.startswith(_READ_ONLY)), "")


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
