"""What a client is timed by, in ticks that the tests count themselves."""

from __future__ import annotations

from synap.http.server.client_timeouts import ClientTimeouts
from synap.http.server.limits import Ticks


class CountedClock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.tick = 100
        self.ticks = Ticks(
            read_bytes=100,
            head=10,
            body=20,
            request=60,
            idle=75,
            write=30,
            linger=2,
            idle_grace=4,
            fresh_grace=6,
            work_grace=2,
        )


def test_new_client_is_silent_after_the_time_for_a_head() -> None:
    clock = CountedClock()
    timeouts = ClientTimeouts(clock)
    clock.tick += 10
    assert not timeouts.is_silent(has_begun=False, is_leaving=False)
    clock.tick += 1
    assert timeouts.is_silent(has_begun=False, is_leaving=False)


def test_known_client_is_silent_after_the_idle_time_and_sooner_while_leaving() -> None:
    clock = CountedClock()
    timeouts = ClientTimeouts(clock)
    clock.tick += 5
    assert timeouts.is_silent(has_begun=True, is_leaving=True)
    assert not timeouts.is_silent(has_begun=True, is_leaving=False)


def test_body_that_grows_is_late_after_the_whole_requests_time() -> None:
    clock, body = CountedClock(), object()
    timeouts = ClientTimeouts(clock)
    for _ in range(6):
        assert not timeouts.is_body_late(body)
        clock.tick += 10
        timeouts.since = clock.tick
    assert not timeouts.is_body_late(body)
    clock.tick += 1
    assert timeouts.is_body_late(body)
    assert not timeouts.is_body_late(object())


def test_client_that_reads_a_little_is_not_stalled() -> None:
    clock = CountedClock()
    timeouts = ClientTimeouts(clock)
    for unread_bytes in (500, 400, 300):
        assert not timeouts.is_stalled(unread_bytes)
        clock.tick += 15
    clock.tick += 16
    assert timeouts.is_stalled(300)
    timeouts.forgive_stall()
    assert not timeouts.is_stalled(300)


def test_client_that_reads_a_little_for_ever_is_stalled_in_the_end() -> None:
    clock = CountedClock()
    timeouts = ClientTimeouts(clock)
    for unread_bytes in range(1000, 993, -1):
        assert not timeouts.is_stalled(unread_bytes)
        clock.tick += 10
    # The time of a request, and a tick for each 100 bytes.
    assert not timeouts.is_stalled(993)
    clock.tick += 1
    assert timeouts.is_stalled(992)


def test_request_is_under_way_for_long_after_its_grace() -> None:
    clock = CountedClock()
    timeouts = ClientTimeouts(clock)
    clock.tick += 2
    assert timeouts.works_since() is None
    clock.tick += 1
    assert timeouts.works_since() == 100


def test_connection_that_does_not_linger_has_never_lingered() -> None:
    clock = CountedClock()
    timeouts = ClientTimeouts(clock)
    clock.tick += 1000
    assert not timeouts.has_lingered()
    timeouts.begin_lingering()
    clock.tick += 3
    assert timeouts.has_lingered()
