"""`GET /backup` of a real node."""

from __future__ import annotations

from pathlib import Path

from synap.backup.archive import verify_backup
from tests.integration.http_support import Client, error_of, offset_of
from tests.support import Node, eventually


def test_backup_is_whole_and_names_its_checksum_and_offset(
    client: Client, key: str, tmp_path: Path
) -> None:
    offset = client.put(key, "value")
    answer = client.get("/backup", {"X-Synap-Min-Offset": str(offset)})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert int(answer.headers["content-length"]) == len(answer.body)
    path = tmp_path / "b.backup"
    path.write_bytes(answer.body)
    manifest, checksum = verify_backup(path)
    assert answer.headers["x-synap-checksum"] == f"sha256:{checksum}"
    assert answer.body.endswith(bytes.fromhex(checksum))
    assert manifest.position.offset == offset_of(answer) >= offset


def test_backups_digest_is_the_one_that_the_node_tells_at_that_offset(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "b.backup"
    # The one of the test before may not have ended at the node yet.
    backup = eventually(lambda: taken if (taken := client.get("/backup")).status == 200 else None)
    path.write_bytes(backup.body)
    manifest, _ = verify_backup(path)
    answer = client.get("/digest").json()
    assert answer["offset"] == manifest.position.offset
    assert (answer["keys"], answer["digest"]) == (manifest.keys, manifest.digest)


def test_backup_asked_for_by_head_takes_none(client: Client, http_node: Node) -> None:
    answer = client.send("HEAD", "/backup")
    assert (answer.status, answer.body) == (200, b"")
    assert "x-synap-checksum" not in answer.headers
    assert list((http_node.data_dir / "snapshots").glob("*backup*")) == []


def test_backup_by_another_method_is_405(client: Client) -> None:
    answer = client.send("POST", "/backup")
    assert error_of(answer) == (405, "method_not_allowed", False)
    assert "GET" in answer.headers["allow"]


def test_backup_of_an_offset_that_is_not_there_is_refused(client: Client) -> None:
    answer = client.get("/backup", {"X-Synap-Min-Offset": str(2**60)})
    assert error_of(answer) == (503, "not_caught_up", True)
