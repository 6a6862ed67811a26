"""Lines of the log that one peer may bring about."""

from __future__ import annotations

from synap.replication.rules.line_limit import LineLimit

SECOND_NS = 1_000_000_000


def test_peer_that_brings_about_many_lines_gets_few() -> None:
    limit = LineLimit()
    assert sum(limit.allows("a", now) for now in range(1000)) == 10
    assert limit.allows("b", 1000)


def test_peer_gets_lines_again_when_its_span_is_over() -> None:
    limit = LineLimit()
    for now in range(20):
        limit.allows("a", now)
    assert not limit.allows("a", 10 * SECOND_NS)
    assert limit.allows("a", 11 * SECOND_NS)


def test_peers_that_are_told_apart_are_bounded() -> None:
    limit = LineLimit()
    for number in range(10_000):
        limit.allows(str(number), 0)
    assert len(limit._spans) == 256
