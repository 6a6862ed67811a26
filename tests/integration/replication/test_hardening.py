"""What strangers and bad networks do to replication: old messages again, silence, a taken name."""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec
import zmq

from synap.position import START
from synap.replication.rules.messages import (
    Ack,
    Chunk,
    Credit,
    Fetch,
    Heartbeat,
    Hello,
    Published,
    encode,
)
from synap.replication.rules.progress import LinkState
from tests.integration.linked_nodes import Stranger, eventually, on_loop, until_level
from tests.integration.tap import Tap

# What stands before a message's fields: magic and version.
MAGIC_BYTES = 5


@on_loop
async def test_old_messages_sent_again_to_both_ports_are_counted_and_harm_nothing(bench):
    """Cites M1, M6 and H2: frames and heartbeats as they once were, requests of another link."""
    async with bench:
        master = await bench.master()
        frames = [master.set(b"key %d" % number, b"old") for number in range(20)]
        replica = await bench.replica(master)
        await until_level(master, replica)
        reign = master.data_dir.lineage[-1]
        master.set(b"key 0", b"new")
        old = [encode(Published(reign.history), frame.encoded) for frame in frames]
        old += [encode(Chunk(1, 0, False), frame.encoded) for frame in frames]
        old += [encode(Heartbeat(reign.history, 1, 5, 1, 100))]
        with (
            Stranger(master.addresses[1]) as noisy,
            Stranger(master.addresses[1]) as sync,
            Stranger(master.addresses[0], zmq.XSUB) as sub,
        ):

            def are_counted() -> bool:
                # Each one ends its connection, with what else was on the way.
                with suppress(zmq.Again):
                    for parts in old:
                        noisy.socket.send_multipart(parts)
                return master.publisher.violations >= len(old)

            await eventually(are_counted)
            counted = master.publisher.violations
            for request in (Fetch(1, 0, 20, 4), Credit(1, 4), Ack(20, 1, "in_sync")):
                sync.socket.send_multipart(encode(request))
                assert (await sync.answer())[0].reason == "hello_wanted"

            def are_dropped() -> bool:
                # What an XSUB sends before it is connected is lost, so it sends again.
                for parts in old:
                    sub.socket.send_multipart(parts)
                return master.publisher.violations > counted

            await eventually(are_dropped)
        await until_level(master, replica)
        assert replica.value(b"key 0") == b"new"
        assert [each.id for each in master.publisher.replicas()] == ["replica"]


@on_loop
async def test_old_frames_sent_again_to_a_replica_are_dropped(bench):
    """Cites J4 and S2: a stream that begins anew with what was there, and an old heartbeat."""
    async with bench:
        master = await bench.master()
        frames = [master.set(b"key", b"%d" % number) for number in range(20)]
        replica = await bench.replica(master)
        await until_level(master, replica)
        reign = master.data_dir.lineage[-1]
        stream = master.publisher._stream
        stream.send(encode(Heartbeat(reign.history, 1, 3, 1, 100)))
        for frame in frames:
            stream.send(encode(Published(reign.history), frame.encoded))
        master.set(b"key", b"last")
        await until_level(master, replica)
        assert replica.value(b"key") == b"last"
        assert not any(each.state is LinkState.DISCONNECTED for each in replica.statuses)


@on_loop
async def test_half_open_link_is_found_within_three_heartbeats_and_made_anew(bench):
    """Cites L1: nothing closes, nothing comes; then new sockets, by which the name is resolved."""
    async with bench:
        master = await bench.master()
        async with Tap(master.addresses) as tap:
            replica = await bench.replica(tap)
            master.set(b"key", b"1")
            await until_level(master, replica)
            tap.is_silent, before = True, tap.accepted
            cut = time.monotonic()
            await eventually(lambda: replica.has_state(LinkState.DISCONNECTED))
            # Three heartbeats of 100 ms; the rest is for a busy machine.
            assert 0.2 < time.monotonic() - cut < 2
            master.set(b"key", b"2")
            tap.is_silent = False
            await until_level(master, replica)
            assert tap.accepted >= before + 2
            await replica.stop()


@on_loop
async def test_two_replicas_of_one_name_are_named_on_the_master(bench, tmp_path, caplog):
    """Cites A5."""
    async with bench:
        master = await bench.master()
        names = {"server__node_id": "twin"}
        for folder in ("one", "two"):
            replica = await bench.replica(master, folder, **names)
        await eventually(lambda: any(each.note for each in master.publisher.replicas()))
        assert "has the same server.node_id" in master.replica("twin").note
        assert len([each for each in caplog.records if "same server.node_id" in each.message]) == 1
        master.set_many(20)
        await eventually(lambda: replica.data_dir.position.offset == 20)
        assert replica.data_dir.position != START


@on_loop
async def test_replica_of_a_program_that_does_not_read_the_frames_is_told_so(bench):
    """Cites P7: its hello ends before the field that says what it reads."""
    async with bench:
        master = await bench.master()
        master.set(b"key", b"value")
        with Stranger(master.addresses[1]) as old:
            (whole,) = encode(Hello("old", START))
            magic, fields = whole[:MAGIC_BYTES], msgspec.msgpack.decode(whole[MAGIC_BYTES:])
            for head in (whole, magic + msgspec.msgpack.encode(fields[:-1])):
                old.socket.send_multipart([head])
                assert (await old.answer())[0].reason == "needs_upgrade"
            old.say(Fetch(1, 0, 1, 4))
            assert (await old.answer())[0].reason == "hello_wanted"
        assert not master.publisher.replicas()
        replica = await bench.replica(master)
        await until_level(master, replica)
