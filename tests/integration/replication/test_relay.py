"""A replica that serves replicas of its own: real sockets and logs on the test's loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from synap.replication.publishing.relaying import Relay
from synap.replication.rules.follower_io import ReplicaLog
from synap.shared.series import FULL_RESYNCS, PUT_ASIDE
from tests.integration import linked_nodes
from tests.integration.linked_nodes import Master, Replica, eventually, on_loop, until_level
from tests.support import HOST, free_port_block

SECRET = {"replication__secret": "s" * 40}


class RelayingReplica(Replica):
    """A replica that has replicas of its own."""

    def __init__(self, folder: Path, master: Master, **settings: object) -> None:
        # A replica looks for the ROUTER of a named upstream at the next port.
        first = free_port_block(2)
        self.addresses = [f"{HOST}:{port}" for port in (first, first + 1)]
        super().__init__(
            folder,
            master,
            replication__relay=True,
            replication__replica_listen_address=self.addresses[0],
            replication__sync_listen_address=self.addresses[1],
            **settings,
        )

    def hear_beat(self) -> None:
        self.relay.beat()

    def followed_log(self) -> ReplicaLog:
        return self.relay.log

    async def start(self) -> None:
        self.relay = Relay(
            self.config,
            self.data_dir,
            None,
            count=self.counted.count,
            records=None,
            on_failure=pytest.fail,
        )
        await self.relay.start()
        await super().start()
        self.relay.above = self.subscriber.ancestry

    async def stop(self) -> None:
        await super().stop()
        await self.relay.stop()


class Chain(linked_nodes.Bench):
    """A master and two relays, and leaves that follow these."""

    replica_type = RelayingReplica

    async def begin(self, **settings: object) -> None:
        self.settings = settings
        self.master_node = await self.master(**settings)
        self.relays = [await self.relay(name) for name in ("one", "two")]

    async def relay(self, name: str, *above: RelayingReplica, **settings: object):
        upstream = [relay.addresses[0] for relay in above]
        return await self.replica(
            self.master_node, name, replication__upstream=upstream, **self.settings, **settings
        )


@pytest.fixture
def chain(tmp_path: Path, run_dir: Path) -> Chain:
    return Chain(tmp_path)


@on_loop
async def test_leaf_follows_its_relays_by_frames_whatever_becomes_of_those_above(chain):
    async with chain:
        await chain.begin(**SECRET)
        master, (one, two) = chain.master_node, chain.relays
        master.set_many(20)
        leaf = await chain.relay("leaf", one, two)
        await until_level(master, one, leaf)
        assert (leaf.status.hops, leaf.status.path) == (2, ("one",))
        assert leaf.status.master_url == one.status.master_url
        assert [each.id for each in one.relay.replicas()] == ["leaf"]

        await master.stop()
        master.data_dir.promote(None)
        await master.start()
        master.begin_reign()
        await until_level(master, leaf)
        assert (leaf.data_dir.lineage, leaf.status.path) == (master.data_dir.lineage, ("one",))

        await one.stop()
        master.set_many(20)
        await until_level(master, two, leaf)
        assert leaf.status.path == ("two",)
        assert leaf.counted[FULL_RESYNCS] == leaf.counted[PUT_ASIDE] == 0
        await one.start()


@on_loop
async def test_leaf_that_comes_to_the_master_counts_for_no_quorum(chain):
    async with chain:
        await chain.begin()
        master, (one, _) = chain.master_node, chain.relays
        leaf = await chain.relay("leaf", one)
        master.set_many(5)
        await one.stop()
        await eventually(lambda: (found := master.replica("leaf")) and found.status == "in_sync")
        await until_level(master, leaf)
        assert [master.publisher.held_offset(replicas) for replicas in (1, 2)] == [5, 0]
        await one.start()
