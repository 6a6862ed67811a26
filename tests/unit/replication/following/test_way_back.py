"""When a replica goes back to an upstream further up in its list."""

from __future__ import annotations

import asyncio

import pytest

from synap.config.loading import load_config
from synap.replication.following.upstreams import Upstream, Upstreams
from synap.replication.following.way_back import WayBack
from synap.replication.rules.messages import Heartbeat

MASTER = Upstream("master:1", "master:2")


def beat(*path: str, age_ms: int = 0) -> Heartbeat:
    return Heartbeat(bytes(16), 1, 0, 1, 1000, path=path, age_ms=age_ms)


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        ({"one:1": beat("one"), "two:1": beat("two")}, "one:1"),
        ({"two:1": beat("two")}, "two:1"),
        ({"one:1": beat("one", "leaf"), "two:1": beat("two", age_ms=30_000)}, None),
        ({"master:1": beat()}, None),
    ],
    ids=["first", "second", "loop-and-orphan", "current"],
)
def test_way_back_leads_to_the_first_that_hears_a_master(heard, found):
    async def listen(address: str) -> Heartbeat | None:
        return heard.get(address)

    upstreams = Upstreams(["one:1", "two:1"], MASTER)
    upstreams.go_to(MASTER)
    config = load_config(None, {"server.node_id": "leaf"}, environ={})
    looked = asyncio.run(WayBack(config, upstreams, print, listen).find())
    assert (looked and looked.stream) == found
