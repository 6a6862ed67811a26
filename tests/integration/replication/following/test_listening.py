"""Whether a master is heard: one with another key, a busy one, and one that is encrypted."""

from __future__ import annotations

from pathlib import Path

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.replication.following.listening import why_unheard
from synap.replication.rules.messages import Heartbeat, Published, encode
from synap.replication.transport.curve import load_keys
from synap.replication.transport.sockets import ListeningEndpoint, Sockets
from tests.integration.key_ring import KeyRing
from tests.integration.linked_nodes import on_loop
from tests.support import HOST

BUFFER_BYTES = 64 * 1024
HISTORY = bytes(16)
BEAT = encode(Heartbeat(HISTORY, 1, 1, 0, 100))
FRAME = encode(Published(HISTORY), b"frame")


async def reason_at(master: Config, node: Config, *said: list[bytes]) -> str:
    """Return why `node` does not hear a master that says all of it to each new subscriber."""
    sockets = Sockets(BUFFER_BYTES, load_keys(master))
    stream: ListeningEndpoint | None = None

    def welcome(parts: list[bytes], _: str) -> None:
        assert stream is not None
        for message in said:
            stream.send(message)

    try:
        stream = sockets.bind_stream(f"{HOST}:0", 5000, welcome)
        sockets.keep_doors()
        return await why_unheard(node, stream.address)
    finally:
        sockets.close()


@on_loop
async def test_master_that_writes_is_heard_although_a_frame_follows_its_heartbeat() -> None:
    config = load_config(None, {}, {})
    assert await reason_at(config, config, BEAT, FRAME) == ""


@on_loop
async def test_promoted_master_is_heard_by_the_second_of_the_keys(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    master = ring.config("new", **ring.settings("new", "old new", "third"))
    node = ring.config("third", **ring.settings("third", "old new", "third"))
    assert await reason_at(master, node, BEAT) == ""


@on_loop
async def test_master_that_is_encrypted_is_not_heard_by_a_plain_node_and_told_why(
    tmp_path: Path,
) -> None:
    reason = await reason_at(KeyRing(tmp_path).config("new"), load_config(None, {}, {}), BEAT)
    assert "uses CurveZMQ" in reason
