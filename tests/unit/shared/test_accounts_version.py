"""The version of the accounts, in memory that processes share."""

from __future__ import annotations

from pathlib import Path

from synap.shared.accounts_version import AccountsVersion


def test_change_is_seen_by_everybody_who_maps_it(tmp_path: Path) -> None:
    owner, worker = AccountsVersion(tmp_path / "accounts"), AccountsVersion(tmp_path / "accounts")
    before = worker.cells[0]
    owner.change()
    assert worker.cells[0] == before + 1
    for each in (owner, worker):
        each.close()
