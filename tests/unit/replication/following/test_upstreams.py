"""Whose turn it is of those that a replica may follow."""

from __future__ import annotations

from synap.replication.following.upstreams import Upstream, Upstreams

MASTER = Upstream("master:15501", "master:15502")


def test_upstreams_are_called_in_order_and_the_master_last():
    upstreams = Upstreams(["one:15501", "two:7000"], MASTER)
    called = [upstreams.current]
    while upstreams.turn():
        called.append(upstreams.current)
    assert called == [Upstream("one:15501", "one:15502"), Upstream("two:7000", "two:7001"), MASTER]


def test_next_round_goes_on_behind_the_last_one_called():
    upstreams = Upstreams(["one:15501"], MASTER)
    upstreams.turn()
    assert not upstreams.turn()
    upstreams.begin_round()
    assert upstreams.turn()
    assert upstreams.current.stream == "one:15501"


def test_master_that_is_named_among_the_upstreams_keeps_its_place_there():
    upstreams = Upstreams(["master:15501", "one:15501"], MASTER)
    assert (len(upstreams), upstreams.current) == (2, MASTER)


def test_master_alone_has_no_other():
    upstreams = Upstreams((), MASTER)
    assert not upstreams.turn()
    assert upstreams.current is MASTER
