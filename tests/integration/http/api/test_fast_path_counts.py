"""The short way where requests are counted and logged: it keeps what the long one does."""

from __future__ import annotations

import json
import logging
from itertools import pairwise

import pytest

from synap.http.api.traces import Trace
from tests.integration.both_ways import JSON, both_ways, config_of
from tests.support import Node

BODY = json.dumps({"key": "counted:a", "value": "v"}).encode()

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_rate_limit_counts_the_same_by_both_ways(http_node: Node) -> None:
    limit = {"rate_limit__enabled": True, "rate_limit__requests_per_second": 1}
    with both_ways(config_of(http_node, **limit, rate_limit__burst_size=20)) as ways:
        remaining = []
        for number in range(20):
            send = ways.send if number % 2 else ways.long
            found = send("GET", "/kv/get/guard:none")
            answer = found[0] if isinstance(found, tuple) else found
            remaining.append(int(answer.headers["x-ratelimit-remaining"]))
        assert ways.taken >= 8
        assert remaining[0] == 19
        assert all(0 <= a - b <= 1 for a, b in pairwise(remaining))
        refused, is_short = ways.send("POST", "/kv/set", BODY, JSON)
        assert (refused.status, is_short) == (429, False)


def test_rate_limit_counts_clients_behind_a_trusted_proxy(http_node: Node) -> None:
    settings = {
        "rate_limit__enabled": True, "rate_limit__requests_per_second": 1,
        "rate_limit__burst_size": 30, "server__trusted_proxies": "127.0.0.1",
    }  # fmt: skip
    with both_ways(config_of(http_node, **settings)) as ways:
        for _ in range(9):
            ways.send("GET", "/kv/get/a", None, {"X-Forwarded-For": "203.0.113.8"})
        answer = ways.short("GET", "/kv/get/a", None, {"X-Forwarded-For": "x, 203.0.113.9"})
        assert int(answer.headers["x-ratelimit-remaining"]) >= 27


def test_access_log_has_a_line_for_each_request_by_both_ways(
    http_node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "synap.access")
    id = {"X-Request-Id": "one", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    with both_ways(config_of(http_node, logging__access=True)) as ways:
        ways.short("GET", "/kv/get/a%2Fb", None, id)
        ways.short("POST", "/kv/set", BODY, {**JSON, **id})
        ways.long("GET", "/kv/get/a%2Fb", None, id)
    lines = [line for each in caplog.records for line in getattr(each, "requests", ())]
    assert {line.trace for line in lines} == {Trace(TRACE, SPAN, True)}
    found = {
        (line.client, line.method, line.target, line.status, line.request_id) for line in lines
    }
    assert found == {
        ("127.0.0.1", "GET", "/kv/get/a%2Fb", 404, "one"),
        ("127.0.0.1", "POST", "/kv/set", 200, "one"),
    }
