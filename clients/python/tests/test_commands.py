"""What the typed calls send, and what they make of answers."""

from __future__ import annotations

import json

import httpx
import pytest
from synap_client import commands, txn
from synap_client.errors import PositionLost, Refused, ResultNotKept, SynapClientError


def error(status: int, reason: str, *, retryable: bool = False) -> httpx.Response:
    fields = {"error": "so it is", "code": status, "reason": reason, "retryable": retryable}
    return httpx.Response(status, json=fields)


def test_set_sends_what_is_wanted_and_no_more() -> None:
    plain = commands.set_("k", {"a": 1}, ttl=None, nx=False, xx=False, if_version=None)
    assert json.loads(plain.body) == {"key": "k", "value": {"a": 1}}
    full = commands.set_("k", "v", ttl=0, nx=True, xx=False, if_version="1-0123abcd")
    wanted = {"key": "k", "value": "v", "ttl": 0, "nx": True, "if_version": "1-0123abcd"}
    assert json.loads(full.body) == wanted


def test_missing_key_is_no_error_and_a_missing_path_is_one() -> None:
    assert commands.get("k").result_of(error(404, "key_not_found")) is None
    with pytest.raises(Refused):
        commands.get("k").result_of(error(404, "not_found"))


def test_failed_condition_is_a_result_and_a_lost_position_is_not() -> None:
    write = commands.set_bytes("k", b"", ttl=None, nx=True, if_version=None)
    assert write.headers["If-None-Match"] == "*"
    assert write.result_of(error(412, "precondition_failed")) is None
    with pytest.raises(PositionLost, match="so it is"):
        commands.get("k").result_of(error(412, "position_lost"))


def test_refusal_has_the_words_of_the_node() -> None:
    with pytest.raises(Refused, match="507 disk_full: so it is") as told:
        commands.incr("k", 1).result_of(error(507, "disk_full", retryable=True))
    assert (told.value.status, told.value.is_retryable) == (507, True)
    with pytest.raises(Refused, match="401: Unauthorized"):
        commands.incr("k", 1).result_of(httpx.Response(401))


def test_result_that_was_not_kept_is_told() -> None:
    fields = {"success": True, "replayed_without_result": True}
    answer = httpx.Response(200, json=fields, headers={"Idempotent-Replayed": "true"})
    with pytest.raises(ResultNotKept):
        commands.txn([], [txn.get("k")], []).result_of(answer)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"value": "x"}'])
def test_answer_of_something_else_is_an_error(body: bytes) -> None:
    with pytest.raises(SynapClientError, match="POST /kv/incr"):
        commands.incr("k", 1).result_of(httpx.Response(200, content=body))
