"""Places in the log after a log has lost its end: none is taken for another reign's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import synap_here
from tests.conftest import StartNode
from tests.support import Answer, Cluster, Node, eventually
from tests.system.test_backup import backup
from tests.system.test_roles import (
    HEARTBEAT,
    SECONDS,
    await_silence,
    follow,
    is_level,
    promote,
    put,
)

pytestmark = pytest.mark.timeout(180)

PATH = "/raw/acct"


def write(node: Node, value: bytes, **headers: str) -> Answer:
    return node.request(
        "PUT", PATH, value, {name.replace("_", "-"): headers[name] for name in headers}
    )


def read_from(node: Node, position: str) -> Answer:
    """Read at a place; again while the node says that it is behind."""

    def ask() -> Answer | None:
        answer = node.request("GET", PATH, headers={"X-Synap-Min-Position": position})
        return None if answer.status == 503 else answer

    return eventually(ask, SECONDS)


def check_no_condition_holds(node: Node, lost: Answer) -> None:
    """Check that nothing takes what `lost` names for what the node has."""
    etag, version = lost.headers["etag"], lost.json()["version"]
    assert node.request("GET", PATH, headers={"If-None-Match": etag}).status == 200
    refused = node.request("GET", PATH, headers={"X-Synap-Min-Position": version})
    assert (refused.status, refused.json()["reason"]) == (412, "position_lost")
    assert refused.json()["retryable"] is False
    assert write(node, b"balance=90", If_Match=etag).status == 412
    assert node.request("DELETE", PATH, headers={"If-Match": etag}).status == 412
    body = {"key": "acct", "value": "balance=90", "if_version": version}
    assert node.request("POST", "/kv/set", body).json()["written"] is False
    assert node.request("GET", PATH).body == b"balance=999"


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, 2, **HEARTBEAT) as cluster:
        assert put(cluster.master, "first", "1", 2) == 200
        yield cluster


def test_entry_that_a_promotion_lost_satisfies_no_condition_on_any_node(trio: Cluster) -> None:
    old, new, third = trio.nodes
    for replica in (new, third):
        replica.stop()
    # The mark with which the next reign begins takes the first of the lost offsets.
    write(old, b"balance=50")
    lost = write(old, b"balance=100")
    old.kill()
    for replica in (new, third):
        replica.start()
    await_silence(new)
    promote(new)
    follow(third, new)
    kept = write(new, b"balance=999", X_Synap_Min_Replicas="1")
    assert kept.headers["x-synap-offset"] == lost.headers["x-synap-offset"]
    check_no_condition_holds(new, lost)
    assert read_from(third, kept.headers["x-synap-position"]).body == b"balance=999"
    told = read_from(third, lost.headers["x-synap-position"])
    assert (told.status, told.json()["reason"]) == (412, "position_lost")
    assert third.request("GET", PATH, headers={"If-None-Match": lost.headers["etag"]}).status == 200
    old.start()
    follow(old, new, force=True)
    eventually(lambda: is_level(new, old), SECONDS)
    assert read_from(old, kept.headers["x-synap-position"]).body == b"balance=999"
    assert read_from(old, lost.headers["x-synap-position"]).status == 412
    assert old.request("GET", PATH).headers["etag"] == kept.headers["etag"]


def test_places_before_a_promotion_stay_those_of_their_entries(trio: Cluster) -> None:
    old, new, third = trio.nodes
    before = write(old, b"before", X_Synap_Min_Replicas="2")
    old.kill()
    await_silence(new)
    promote(new)
    assert new.request("GET", PATH).headers["etag"] == before.headers["etag"]
    assert read_from(new, before.headers["x-synap-position"]).body == b"before"
    assert read_from(third, before.headers["x-synap-position"]).body == b"before"
    assert write(new, b"after", If_Match=before.headers["etag"]).status == 200


def test_entry_behind_a_restored_backup_satisfies_no_condition(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node("source")
    assert put(node, "x", "1") == 200
    assert backup(node, tmp_path / "b.backup").returncode == 0
    lost = write(node, b"balance=100")
    node.stop()
    data_dir = tmp_path / "restored"
    restored = synap_here(
        "restore", "--from", str(tmp_path / "b.backup"), "--data-dir", str(data_dir)
    )
    assert restored.returncode == 0, restored.stderr
    copy = start_node("copy", data_dir=data_dir)
    kept = write(copy, b"balance=999")
    assert kept.headers["x-synap-offset"] == lost.headers["x-synap-offset"]
    check_no_condition_holds(copy, lost)
    assert copy.request("GET", "/kv/get/x").json() == "1"
