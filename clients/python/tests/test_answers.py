"""What an answer means."""

from __future__ import annotations

import json

import pytest
from synap_client.rules.answers import Answer, Verdict, answer_of, verdict_of


def error(status: int, reason: str, retryable: bool = False) -> Answer:
    body = json.dumps({"error": "…", "reason": reason, "retryable": retryable}).encode()
    return answer_of(status, {}, body)


def verdict(answer: Answer, *, is_read: bool = False, max_lag_ms: int | None = None) -> Verdict:
    return verdict_of(answer, is_read=is_read, max_lag_ms=max_lag_ms)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (Answer(200), Verdict.FINAL),
        (error(404, "key_not_found"), Verdict.FINAL),
        (error(409, "transaction_lost", retryable=True), Verdict.FINAL),
        (error(507, "disk_full", retryable=True), Verdict.FINAL),
        (error(421, "host_not_allowed"), Verdict.FINAL),
        (error(421, "read_only_replica"), Verdict.ELSEWHERE),
        (answer_of(421, {}, b""), Verdict.ELSEWHERE),
        (error(503, "stale_epoch"), Verdict.ELSEWHERE),
        (error(503, "writer_unavailable", retryable=True), Verdict.LATER),
        (error(503, "overloaded", retryable=True), Verdict.LATER),
        (error(503, "overloaded"), Verdict.UNKNOWN),
        (error(503, "outcome_unknown"), Verdict.UNKNOWN),
        (error(503, "quorum_timeout"), Verdict.UNKNOWN),
        (answer_of(502, {}, b"<html>"), Verdict.UNKNOWN),
        (answer_of(503, {}, b"<html>"), Verdict.UNKNOWN),
        (error(500, "internal_error"), Verdict.FINAL),
    ],
)
def test_answer_to_a_write(answer: Answer, wanted: Verdict) -> None:
    assert verdict(answer) is wanted


@pytest.mark.parametrize("reason", ["record_corrupt", "store_damaged"])
def test_node_with_a_damaged_store_is_unfit_for_reads(reason: str) -> None:
    assert verdict(error(500, reason), is_read=True) is Verdict.UNFIT


def test_node_without_the_position_is_unfit_for_reads() -> None:
    lost = error(412, "position_lost")
    assert lost.is_position_lost
    assert verdict(lost, is_read=True) is Verdict.UNFIT


def test_data_that_is_too_old_is_read_elsewhere() -> None:
    answer = answer_of(200, {"x-synap-lag-ms": "11"}, b"")
    assert verdict(answer, is_read=True, max_lag_ms=10) is Verdict.LATER
    assert verdict(answer, is_read=True, max_lag_ms=11) is Verdict.FINAL
    assert verdict(answer, is_read=True) is Verdict.FINAL


def test_commands_that_a_replica_refused_name_the_master() -> None:
    text = "Read-only replica: this node takes no writes; the master is http://h:1"
    refused = {"success": False, "error": text}
    for body in (refused, {"type": "batch_response", "results": [{"error": None}, refused]}):
        answer = answer_of(200, {}, json.dumps(body).encode(), is_command=True)
        assert answer.is_refused_command
        assert answer.master == "http://h:1"
        assert verdict(answer) is Verdict.ELSEWHERE


def test_value_that_looks_like_a_refusal_is_a_value() -> None:
    body = json.dumps({"success": True, "error": "Read-only replica: "}).encode()
    assert not answer_of(200, {}, body).is_refused_command


def test_headers_are_taken_where_they_are_numbers() -> None:
    headers = {"x-synap-lag-ms": "x", "retry-after": "3600", "x-synap-position": "1-0123abcd"}
    answer = answer_of(429, headers, b"")
    assert answer.lag_ms is None
    assert answer.retry_after_seconds == 5.0
    assert answer.position == "1-0123abcd"
