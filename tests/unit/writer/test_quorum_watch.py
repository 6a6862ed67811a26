"""Whether the replicas that writes wait for can be reached."""

from __future__ import annotations

from synap.writer.writer_status import QuorumWatch


def test_quorum_is_lost_when_it_was_not_reached_for_too_long() -> None:
    watch = QuorumWatch(2, 30, 100)
    assert watch.look(0, 129)
    assert not watch.look(1, 130)
    assert watch.look(2, 200)
    assert watch.look(1, 229)
    assert not watch.look(1, 230)
