"""The buckets of clients, in shared memory and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synap.shared.rate_limiter import RateLimiter
from tests.integration.http_support import error_of, make_config, serving

SECOND = 1_000_000_000
NOW = 100 * SECOND


@pytest.fixture
def limiter(tmp_path: Path) -> Iterator[RateLimiter]:
    limiter = RateLimiter(tmp_path / "rates", requests_per_second=10, burst_size=5)
    yield limiter
    limiter.close()


def taken(limiter: RateLimiter, client: str, now_ns: int, count: int) -> list[bool]:
    return [limiter.take(client, now_ns).is_allowed for _ in range(count)]


def test_burst_is_allowed_and_then_the_rate(limiter: RateLimiter) -> None:
    assert taken(limiter, "a", NOW, 7) == [True] * 5 + [False] * 2
    assert taken(limiter, "a", NOW + SECOND // 10, 2) == [True, False]
    assert taken(limiter, "a", NOW + 10 * SECOND, 6) == [True] * 5 + [False]


def test_share_tells_what_is_left_and_when_more_is(limiter: RateLimiter) -> None:
    first = limiter.take("a", NOW)
    assert (first.remaining, first.reset_seconds, first.retry_seconds) == (4, 1, 0)
    taken(limiter, "a", NOW, 4)
    refused = limiter.take("a", NOW)
    assert (refused.is_allowed, refused.remaining, refused.retry_seconds) == (False, 0, 1)


def test_clients_have_buckets_of_their_own_and_a_network_of_ipv6_one(limiter: RateLimiter) -> None:
    taken(limiter, "192.0.2.1", NOW, 5)
    assert taken(limiter, "192.0.2.2", NOW, 1) == [True]
    taken(limiter, "2001:db8:0:1::1", NOW, 5)
    assert taken(limiter, "2001:db8:0:1::2", NOW, 1) == [False]
    assert taken(limiter, "2001:db8:0:2::1", NOW, 1) == [True]


def test_workers_share_the_buckets_of_the_node(tmp_path: Path) -> None:
    limiters = [RateLimiter(tmp_path / "rates", 10, 6) for _ in range(3)]
    allowed = [each.take("a", NOW).is_allowed for _ in range(3) for each in limiters]
    assert allowed == [True] * 6 + [False] * 3
    for each in limiters:
        each.close()


def test_times_from_before_the_machines_start_count_as_rested(limiter: RateLimiter) -> None:
    taken(limiter, "a", NOW, 5)
    assert taken(limiter, "a", SECOND, 6) == [True] * 5 + [False]


def test_client_over_the_limit_gets_429_and_health_is_exempt(tmp_path: Path) -> None:
    settings = {"requests_per_second": 1, "burst_size": 3}
    config = make_config(
        tmp_path,
        rate_limit__enabled=True,
        server__trusted_proxies="127.0.0.1",
        **{f"rate_limit__{name}": value for name, value in settings.items()},
    )
    with serving(config) as client:
        left = [client.get("/kv/nothing").headers["x-ratelimit-remaining"] for _ in range(3)]
        assert left == ["2", "1", "0"]
        answer = client.get("/kv/get/a")
        assert error_of(answer) == (429, "rate_limited", True)
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-ratelimit-limit"] == "3"
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert int(answer.headers["x-ratelimit-reset"]) in (2, 3)
        assert client.get("/health").status == 503
        assert client.get("/kv/nothing", {"X-Forwarded-For": "192.0.2.1"}).status == 404
