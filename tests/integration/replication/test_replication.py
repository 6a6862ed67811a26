"""Publisher and subscriber over real sockets, each with a real log and live store."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from contextlib import suppress

import pytest
import zmq

from synap.addresses import split_address
from synap.replication.rules.messages import Ack, Chunk, Credit, Fetch, Refusal, encode, read_frames
from synap.replication.rules.progress import LinkState
from synap.shared.series import CATCH_UPS, GAPS, VIOLATIONS
from tests.integration.linked_nodes import OneNode, Stranger, eventually, on_loop, until_level
from tests.support import HOST

MIB = 1024 * 1024


@on_loop
async def test_empty_replica_of_an_empty_master_is_in_sync(bench):
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        await until_level(master, replica)
        assert replica.data_dir.lineage == master.data_dir.lineage


@on_loop
async def test_empty_replica_joins_and_adopts_the_masters_lineage(bench):
    """Cites J1 and J3."""
    async with bench:
        master = await bench.master()
        master.set_many(300)
        replica = await bench.replica(master)
        await until_level(master, replica)
        assert replica.data_dir.lineage == master.data_dir.lineage
        assert replica.data_dir.position == master.data_dir.position


@on_loop
async def test_replica_that_joins_under_load_has_every_frame_once(bench):
    """Cites J5."""
    async with bench:
        master = await bench.master()
        master.set_many(500)
        replica = await bench.replica(master)
        for _ in range(200):
            master.set_many(5)
            await asyncio.sleep(0)
        await until_level(master, replica)
        there, here = (
            [frame.encoded for frame in node.data_dir.wal.frames_after(0)]
            for node in (master, replica)
        )
        assert here == there


@on_loop
async def test_live_frames_reach_three_replicas(bench):
    """Cites S1 and Q6."""
    async with bench:
        master = await bench.master()
        replicas = [await bench.replica(master, f"replica{n}") for n in range(3)]
        await until_level(master, *replicas)
        for _ in range(100):
            master.set_many(3)
            await asyncio.sleep(0)
        await until_level(master, *replicas)
        assert {each.data_dir.position for each in replicas} == {master.data_dir.position}
        # Each hears how far all of them are.
        held = (master.data_dir.position.offset,) * 3
        await eventually(lambda: all(each.status.held == held for each in replicas))


@on_loop
async def test_join_and_live_frame_do_not_wait_for_the_next_heartbeat(bench):
    """Cites S5: the interval is longer than the test may take."""
    async with bench:
        slow = {"replication__heartbeat_interval_ms": 60_000}
        master = await bench.master(**slow)
        replica = await bench.replica(master, **slow)
        await until_level(master, replica)
        master.set(b"user:100", b"Alice")
        await eventually(lambda: replica.value(b"user:100") == b"Alice")


@pytest.mark.parametrize("lost_share", [0.01, 0.1, 1.0])
@on_loop
async def test_lost_stream_frames_are_fetched(bench, lost_share):
    """Cites J6."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        await until_level(master, replica)
        master.lost_share = lost_share
        for _ in range(200):
            master.set_many(3)
            await asyncio.sleep(0)
        assert master.lost > 0
        began = time.monotonic()
        await until_level(master, replica)
        assert time.monotonic() - began < 5
        assert replica.counted[GAPS] > 0


@on_loop
async def test_master_restart_is_resumed_by_offset(bench):
    """Cites H2: the connection is new to the master, so it asks for a hello."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        master.set_many(50)
        await until_level(master, replica)
        await master.restart()
        master.set_many(50)
        await until_level(master, replica)
        await eventually(lambda: master.replica("replica") is not None)


@on_loop
async def test_replica_restart_resumes_where_it_stood(bench):
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        master.set_many(50)
        await until_level(master, replica)
        await replica.stop()
        before = replica.counted[CATCH_UPS]
        replica.close_log()
        master.set_many(150)
        replica.open_log()
        await replica.start()
        await until_level(master, replica)
        assert replica.counted[CATCH_UPS] == before + 1
        assert len(master.publisher.replicas()) == 1


@on_loop
async def test_silent_master_turns_the_link_disconnected_and_keeps_the_data(bench):
    """Cites L1 and L2."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        master.set(b"key", b"value")
        await until_level(master, replica)
        await master.stop()
        await eventually(lambda: replica.has_state(LinkState.DISCONNECTED))
        assert "heard nothing" in replica.status.note
        assert replica.value(b"key") == b"value"
        await master.start()
        master.set_many(20)
        await until_level(master, replica)


@on_loop
async def test_replica_without_auto_reconnect_stays_disconnected(bench):
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master, replication__auto_reconnect=False)
        await until_level(master, replica)
        await master.stop()
        await eventually(lambda: replica.has_state(LinkState.DISCONNECTED))
        await master.start()
        seen = len(replica.statuses)
        await eventually(lambda: len(replica.statuses) > seen + 20)
        assert replica.status.state is LinkState.DISCONNECTED


@on_loop
async def test_acks_show_each_replicas_progress_on_the_master(bench):
    """Cites A1 and A2."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        master.set_many(20)
        await until_level(master, replica)
        await eventually(lambda: master.replica("replica").offset == 20)
        await eventually(lambda: master.replica("replica").status == "in_sync")
        facts = master.replica("replica")
        assert (facts.lag_entries, facts.lag_ms) == (0, 0)
        assert facts.address.startswith(HOST)
        assert facts.last_ack > 0


@on_loop
async def test_replica_that_went_away_is_shown_as_disconnected(bench):
    """Cites A3."""
    async with bench:
        master = await bench.master(replication__replica_timeout_secs=1)
        replica = await bench.replica(master)
        await until_level(master, replica)
        await replica.stop()
        await eventually(lambda: master.replica("replica").status == "disconnected")
        assert master.replica("replica").offset == 0


@on_loop
async def test_values_of_8_mib_are_replicated(bench):
    """Cites S4: a frame that is too large for the stream is announced and fetched."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        await until_level(master, replica)
        for number in range(4):
            master.set(b"huge %d" % number, bytes([number]) * (8 * MIB))
            master.set(b"small", b"between")
            await asyncio.sleep(0)
        await until_level(master, replica)
        assert replica.value(b"huge 3") == b"\x03" * (8 * MIB)


def drop_first_segment(node: OneNode) -> None:
    segments = sorted(node.paths.wal_dir.glob("synap-*.wal"))
    assert len(segments) > 2, "too little was written for several segments"
    segments[0].unlink()


@on_loop
async def test_log_that_no_longer_reaches_back_needs_a_full_resync_and_keeps_the_data(bench):
    """Cites H1, P5 and P6."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        master.set(b"kept", b"value")
        await until_level(master, replica)
        await replica.stop()
        master.set_many(40, b"x" * 100_000)
        await master.stop()
        master.close_log()
        drop_first_segment(master)
        master.open_log()
        await master.start()
        await replica.start()
        await eventually(lambda: replica.has_state(LinkState.SYNCING))
        assert replica.status.reason == "needs_full_resync"
        assert "asks for offset 2" in replica.status.note
        await eventually(lambda: replica.status.master_offset == master.data_dir.position.offset)
        assert replica.value(b"kept") == b"value"
        await eventually(lambda: master.replica("replica").status == "syncing")


@on_loop
async def test_replica_of_another_history_is_diverged_and_keeps_the_data(bench):
    """Cites P2 and P6."""
    async with bench:
        first = await bench.master("first")
        replica = await bench.replica(first)
        first.set(b"kept", b"value")
        await until_level(first, replica)
        await replica.stop()
        replica.close_log()
        other = await bench.master("other")
        other.set_many(10)
        stranger = await bench.replica(other)
        await eventually(lambda: stranger.has_state(LinkState.DIVERGED))
        assert stranger.status.reason == "diverged"
        assert "share no history" in stranger.status.note
        assert stranger.value(b"kept") == b"value"
        assert stranger.data_dir.position == first.data_dir.position
        await eventually(lambda: other.replica("replica").status == "diverged")


@on_loop
async def test_garbage_at_both_ports_is_counted_and_harms_nothing(bench):
    """Cites M1 and M6."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        await until_level(master, replica)
        noise = random.Random(7)
        with Stranger(master.addresses[1]) as first, Stranger(master.addresses[0], zmq.XSUB) as low:

            def are_counted() -> bool:
                # Each one ends its connection, with what else was on the way.
                with suppress(zmq.Again):
                    first.socket.send_multipart([noise.randbytes(noise.randrange(80))] * 3)
                    first.socket.send(encode(Ack(1, 1, "in_sync"))[0][: noise.randrange(12)])
                return master.publisher.violations >= 100

            await eventually(are_counted)
            counted = master.publisher.violations

            def is_noise_counted() -> bool:
                # What an XSUB sends before it is connected is lost, so it sends again.
                low.socket.send(b"\x7f" + noise.randbytes(10))
                return master.publisher.violations > counted

            await eventually(is_noise_counted)
            master.set_many(20)
            await until_level(master, replica)
        assert master.counted[VIOLATIONS] == master.publisher.violations


@on_loop
async def test_bytes_that_are_no_zmtp_at_both_ports_harm_nothing(bench):
    """Cites M6."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        await until_level(master, replica)
        noise = random.Random(8)
        for port in master.ports * 10:
            with socket.create_connection((HOST, port), timeout=5) as raw, suppress(OSError):
                raw.sendall(
                    noise.choice([b"GET / HTTP/1.1\r\n\r\n", noise.randbytes(5000), b"\xff"])
                )
            master.set_many(2)
            await asyncio.sleep(0)
        await until_level(master, replica)
        assert replica.data_dir.position == master.data_dir.position


@on_loop
async def test_stream_reaches_whoever_subscribes_also_after_the_last_one_left(bench):
    """Cites S1 and S5."""
    async with bench:
        master = await bench.master()
        for _ in range(2):
            with Stranger(master.addresses[0], zmq.SUB) as listener:
                listener.socket.setsockopt(zmq.SUBSCRIBE, b"")
                await eventually(lambda sub=listener.socket: sub.poll(0))
                frame = master.set(b"k", b"v")

                def is_published(sub=listener.socket, encoded=frame.encoded) -> bool:
                    return sub.poll(0) and encoded in sub.recv_multipart()

                await eventually(is_published)


async def forge_unsubscription(address: str) -> asyncio.StreamWriter:
    """Unsubscribe over ZMTP without having subscribed, which no socket of ZeroMQ's does."""
    reader, writer = await asyncio.open_connection(*split_address(address))
    writer.write(b"\xff".ljust(9, b"\0") + b"\x7f\x03\0" + b"NULL".ljust(52, b"\0"))
    await asyncio.wait_for(reader.readexactly(64), 10)
    ready = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"
    # The nonsense behind it is counted, which tells when it was heard.
    writer.write(bytes([4, len(ready)]) + ready + b"\0\x01\0" + b"\0\x02\x7fx")
    return writer


@on_loop
async def test_forged_end_of_subscriptions_keeps_no_frame_from_a_replica(bench):
    """Cites S1."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        await until_level(master, replica)
        writer = await forge_unsubscription(master.addresses[0])
        await eventually(lambda: master.publisher.violations == 1)
        master.set_many(20)
        await until_level(master, replica)
        assert replica.counted[GAPS] == 0
        writer.close()


@on_loop
async def test_request_over_its_bound_ends_the_connection(bench):
    """Cites M3."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        with Stranger(master.addresses[1]) as stranger:
            stranger.socket.send(b"SYNR\x01" + bytes(10 * MIB))
            master.set_many(20)
            await until_level(master, replica)
            assert stranger.socket.poll(0) == 0
        assert master.replica("replica") is not None


@on_loop
async def test_fetch_without_a_hello_is_told_to_say_it(bench):
    """Cites H2."""
    async with bench:
        master = await bench.master()
        with Stranger(master.addresses[1]) as stranger:
            stranger.socket.send_multipart(encode(Fetch(1, 0, 10, 4)))
            refusal, _ = await stranger.answer()
            assert isinstance(refusal, Refusal)
            assert refusal.reason == "hello_wanted"


@on_loop
async def test_master_sends_no_more_chunks_than_it_was_given_credit_for(bench):
    """Cites C1."""
    async with bench:
        master = await bench.master()
        master.set_many(60, b"x" * 100_000)
        with Stranger(master.addresses[1]) as stranger:
            await stranger.hello()
            stranger.socket.send_multipart(encode(Fetch(1, 0, 60, 2)))
            chunks = [await stranger.answer() for _ in range(2)]
            with pytest.raises(AssertionError):
                await eventually(lambda: stranger.socket.poll(0), seconds=0.3)
            frames = [frame for _, bulk in chunks for frame in read_frames(bulk)]
            assert [chunk.sequence for chunk, _ in chunks] == [0, 1]
            assert [frame.first_offset for frame in frames] == list(range(1, len(frames) + 1))
            assert not any(chunk.is_last for chunk, _ in chunks)


@on_loop
async def test_second_fetch_of_a_connection_ends_the_first(bench):
    """Cites C4."""
    async with bench:
        master = await bench.master()
        master.set_many(60, b"x" * 100_000)
        with Stranger(master.addresses[1]) as stranger:
            await stranger.hello()
            for request in (1, 2):
                stranger.socket.send_multipart(encode(Fetch(request, 0, 60, 1)))
            chunk, _ = await stranger.answer()
            if chunk.request == 1:
                chunk, _ = await stranger.answer()
            assert chunk == Chunk(2, 0, False)
            stranger.socket.send_multipart(encode(Credit(1, 1)))
            stranger.socket.send_multipart(encode(Credit(2, 1)))
            assert (await stranger.answer())[0] == Chunk(2, 1, False)


@on_loop
async def test_transfer_without_credit_ends_after_the_timeout(bench):
    """Cites C5."""
    async with bench:
        master = await bench.master(replication__replica_timeout_secs=1)
        master.set_many(60, b"x" * 100_000)
        with Stranger(master.addresses[1]) as stranger:
            await stranger.hello()
            stranger.socket.send_multipart(encode(Fetch(1, 0, 60, 1)))
            await stranger.answer()
            await eventually(lambda: master.replica("stranger").status == "disconnected")
            stranger.socket.send_multipart(encode(Credit(1, 1)))
            refusal, _ = await stranger.answer()
            assert refusal.reason == "hello_wanted"


@on_loop
async def test_ack_ahead_of_the_log_is_not_believed(bench):
    """Cites A4."""
    async with bench:
        master = await bench.master()
        with Stranger(master.addresses[1]) as stranger:
            await stranger.hello("liar")
            stranger.socket.send_multipart(encode(Ack(1_000_000, 1, "in_sync")))
            refusal, _ = await stranger.answer()
            assert isinstance(refusal, Refusal)
            assert master.replica("liar").offset == 0


@on_loop
async def test_catch_up_chunk_at_the_logs_end_is_empty_and_the_last(bench):
    """Cites C3."""
    async with bench:
        master = await bench.master()
        with Stranger(master.addresses[1]) as stranger:
            await stranger.hello()
            stranger.socket.send_multipart(encode(Fetch(5, 0, 10, 4)))
            assert await stranger.answer() == (Chunk(5, 0, True), b"")
