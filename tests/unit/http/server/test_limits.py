"""What the configuration allows a client."""

from __future__ import annotations

from synap.config.loading import load_config
from synap.http.server.limits import HttpLimits, Ticks


def test_limits_without_a_configuration_are_the_workers_own() -> None:
    assert HttpLimits.of(load_config(None, environ={})) == HttpLimits()


def test_limits_are_those_of_the_configuration() -> None:
    values = {
        "server.max_request_size_mb": 1,
        "server.max_connections": 7,
        "server.request_timeout_secs": 3,
        "server.idle_timeout_secs": 5,
    }
    limits = HttpLimits.of(load_config(None, values, environ={}))
    assert (limits.max_body_bytes, limits.max_connections) == (1024 * 1024, 7)
    assert limits.max_connections_of_address == 3
    assert (limits.head_seconds, limits.request_seconds, limits.idle_seconds) == (3, 3, 5)


def test_ticks_are_never_early() -> None:
    ticks = Ticks.of(HttpLimits(head_seconds=1.1), 0.25)
    assert ticks.head == 6
