"""What commands remember of a cluster, for when its master is lost."""

from __future__ import annotations

from pathlib import Path

from workers.cli.members import Members

NODES = {"m": "http://m:1", "r": "http://r:1"}
DAY = 86_400.0


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_cluster_is_found_by_any_of_its_addresses(tmp_path: Path) -> None:
    members = Members(tmp_path / "new", Clock())
    members.keep(NODES)
    assert members.of(["http://r:1"]) == NODES
    assert members.of(["http://x:1"]) == {}
    assert (tmp_path / "new" / "members.json").stat().st_mode & 0o777 == 0o600


def test_newer_look_replaces_the_one_that_shares_an_address(tmp_path: Path) -> None:
    members = Members(tmp_path, Clock())
    members.keep(NODES)
    members.keep({"r": "http://r:1", "s": "http://s:1"})
    assert members.of(["http://r:1"]) == {"r": "http://r:1", "s": "http://s:1"}
    assert members.of(["http://m:1"]) == {}


def test_node_that_is_in_the_list_no_more_is_remembered_for_a_day(tmp_path: Path) -> None:
    clock = Clock()
    members = Members(tmp_path, clock)
    members.keep(NODES)
    members.keep({"r": "http://r:1"})
    members.keep({"r": "http://r:1", "s": "http://s:1"})
    assert members.left(["http://s:1"]) == {"m": "http://m:1"}
    assert members.left(["http://x:1"]) == {}
    members.keep(NODES)
    assert members.left(["http://m:1"]) == {"s": "http://s:1"}
    clock.now += DAY
    assert members.left(["http://m:1"]) == {}


def test_cluster_that_was_not_seen_for_long_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    members = Members(tmp_path, clock)
    members.keep(NODES)
    clock.now += 31 * DAY
    assert members.of(["http://m:1"]) == {}


def test_damaged_or_huge_file_is_as_none(tmp_path: Path) -> None:
    members = Members(tmp_path, Clock())
    for content in (b"{", b'{"clusters":[{"nodes":7}]}', b" " * (1024 * 1024 + 1)):
        (tmp_path / "members.json").write_bytes(content)
        assert members.of(["http://m:1"]) == {}
    members.keep(NODES)
    assert members.of(["http://m:1"]) == NODES


def test_folder_that_can_not_be_written_to_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    members = Members(tmp_path / "file", Clock())
    members.keep(NODES)
    assert members.of(["http://m:1"]) == {}
