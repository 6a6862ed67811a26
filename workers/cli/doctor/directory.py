"""A data directory, and a folder of backups, looked at from outside, also while a node runs."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from synap.backup.archive import is_backup, verify_backup
from synap.errors import BackupError, DataDirUnusable, SynapError
from synap.node.identity import NodeIdentity, read_identity
from synap.node.paths import NodePaths
from synap.repair.inspection import words_for
from synap.snapshot.folder import TEMPORARY, damaged_manifests, snapshots
from synap.store import is_trusted
from synap.store.generations import DATA_FILE
from synap.wal.walk import LogReport, check_log, has_segments
from workers.cli.doctor.findings import Finding, fault, note, warning

_SPARE_BYTES = 16 * 1024 * 1024
_LOW_SHARE = 0.1
_HOUR_MS = 3_600_000
_SNAPSHOT_HOURS = 24
_BACKUP_HOURS = 25
# Entries of a folder that are looked at; a log has a segment for every 64 MiB.
_MOST_ENTRIES = 20_000


def directory_findings(paths: NodePaths, *, is_running: bool, now_ms: int) -> Iterator[Finding]:
    """Yield what is wrong with a node's files.

    Args:
        paths: Where they are.
        is_running: Whether the node runs.
        now_ms: Wall clock.
    """
    if not paths.data_dir.is_dir():
        yield fault(
            str(paths.data_dir), "is no directory", "name the node's by --data-dir or --config"
        )
        return
    yield from owner_findings(paths.data_dir)
    if not os.access(paths.data_dir, os.R_OK | os.X_OK):
        return
    identity, found = _identity(paths)
    yield from found
    if identity is not None:
        yield from role_findings(paths.data_dir, identity)
    yield from room_findings(paths)
    yield from log_findings(paths.wal_dir, is_running=is_running)
    yield from snapshot_findings(paths.snapshots_dir, now_ms, is_running=is_running)
    if not is_running:
        yield from stopped_findings(paths)
    yield from aside_findings(paths)


def owner_findings(data_dir: Path) -> Iterator[Finding]:
    """Yield the files of another owner than the directory's, and those that others may use."""
    owner = data_dir.stat().st_uid
    foreign, open_to_others, links = [], [], []
    for path, facts in _entries(data_dir):
        if stat.S_ISLNK(facts.st_mode):
            if path.parent.name == "wal" and path.suffix == ".wal" and "-" in path.name:
                links.append(path)
            continue
        if facts.st_uid != owner:
            foreign.append(path)
        # A node closes what lies directly in its directory; below that it is closed with it.
        if path.parent == data_dir and facts.st_mode & 0o077:
            open_to_others.append(path)
    if foreign:
        yield fault(
            str(data_dir), f"holds files of another owner: {_few(foreign, data_dir)}",
            f"`chown -R {owner} {data_dir}`, or the user that the node runs as",
        )  # fmt: skip
    if open_to_others:
        yield warning(
            str(data_dir), f"holds what others may use: {_few(open_to_others, data_dir)}",
            f"the node's next start closes it, or `chmod -R go= {data_dir}`",
        )  # fmt: skip
    if links:
        yield fault(
            str(data_dir), f"has links in place of segments: {_few(links, data_dir)}",
            "a segment is a file; put the files themselves there",
        )  # fmt: skip
    if os.geteuid() not in (0, owner):
        yield note(
            str(data_dir), f"belongs to the user {owner}, and this command runs as {os.geteuid()}",
            "look as that user, by `sudo -u` say: what can't be read was not looked at",
        )  # fmt: skip


def role_findings(data_dir: Path, identity: NodeIdentity) -> Iterator[Finding]:
    """Yield what `node.json` says that an operator should know."""
    if identity.ended_by_epoch:
        yield fault(
            str(data_dir), f"was a master's, and epoch {identity.ended_by_epoch} took its place",
            "`synap follow URL_OF_THE_MASTER` at the node makes it a replica",
        )  # fmt: skip
    if identity.is_recovering:
        yield fault(
            str(data_dir), "belongs to a master that may have lost the end of its log",
            "start its replicas, which it asks; `synap promote --force` goes without",
        )  # fmt: skip
    if not identity.has_synced:
        yield note(str(data_dir), "never held a whole state", "start its master: it fetches all")


def room_findings(paths: NodePaths) -> Iterator[Finding]:
    """Yield whether the file systems have room for what the node does next."""
    folders = {paths.data_dir, paths.wal_dir, paths.snapshots_dir}
    by_device = {each.stat().st_dev: each for each in sorted(folders) if each.is_dir()}
    image_bytes = _store_bytes(paths.store_dir)
    for folder in by_device.values():
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
        if free < _SPARE_BYTES:
            yield fault(
                str(folder), f"has {free} bytes left on its file system",
                "make room: other files, old backups, foreign/ and diverged/ where not wanted",
            )  # fmt: skip
        elif free < image_bytes + _SPARE_BYTES:
            yield warning(
                str(folder), f"has {free} bytes left, and a snapshot takes up to {image_bytes}",
                "make room: without snapshots the log grows, and a rebuild needs as much again",
            )  # fmt: skip
        elif free < _LOW_SHARE * disk.f_blocks * disk.f_frsize:
            yield note(
                str(folder), f"has {free / (disk.f_blocks * disk.f_frsize):.0%} of its disk left",
                "look what grows there",
            )  # fmt: skip
        if disk.f_files and disk.f_favail < 100:
            yield fault(str(folder), f"has {disk.f_favail} inodes left", "remove small files")


def log_findings(wal_dir: Path, *, is_running: bool) -> Iterator[Finding]:
    """Yield whether the log is damaged, having read all of it."""
    if not wal_dir.is_dir() or not has_segments(wal_dir):
        return
    try:
        report = _checked(wal_dir)
    except (OSError, SynapError) as error:
        yield fault(str(wal_dir), f"can't be read: {error}", "look at the disk, and at the owner")
        return
    bad = report.bad
    if bad is not None and not bad.is_torn:
        yield fault(
            str(wal_dir), f"is {words_for(bad)}",
            f"`synap wal repair {wal_dir.parent}`; docs/operations.md, \"Repair\"",
        )  # fmt: skip
    elif bad is not None and not is_running:
        yield note(str(wal_dir), f"is {words_for(bad)}", "the next start cuts that off")
    removed = sorted(each.name for each in wal_dir.glob("removed-*"))
    if removed:
        yield note(
            str(wal_dir), f"keeps what was repaired away: {', '.join(removed[:3])}",
            "remove it when nobody wants it any more",
        )  # fmt: skip


def snapshot_findings(folder: Path, now_ms: int, *, is_running: bool) -> Iterator[Finding]:
    """Yield whether the snapshots can be used, and how old the newest one is."""
    for path, why in damaged_manifests(folder):
        yield fault(
            str(path), why, "the node puts it aside at its next start; `synap snapshot` takes one"
        )
    held = snapshots(folder)
    sizes = {path: facts.st_size for path, facts in _entries(folder)}
    for path, manifest in held:
        size = sizes.get(path, manifest.bytes)
        if size != manifest.bytes:
            yield fault(
                str(path), f"has {size} bytes instead of {manifest.bytes}",
                "`synap snapshot` takes another one; look at the disk",
            )  # fmt: skip
    if held:
        hours = (now_ms - held[0][1].created_ms) / _HOUR_MS
        if hours > _SNAPSHOT_HOURS:
            yield note(
                str(held[0][0]), f"is the newest snapshot, {hours:.0f} h old",
                "that is right where little was written since",
            )  # fmt: skip
        elif hours < -1:
            yield warning(
                str(held[0][0]), f"is of {-hours:.0f} h from now", "look at this machine's clock"
            )
    if not is_running and folder.is_dir():
        left = sorted(each.name for each in folder.iterdir() if each.name.endswith(TEMPORARY))
        if left:
            yield note(str(folder), f"holds leftovers: {left[0]}", "the next start removes them")


def stopped_findings(paths: NodePaths) -> Iterator[Finding]:
    """Yield what the next start of a node that does not run will meet."""
    is_used, why = is_trusted(paths.store_dir)
    if not is_used and paths.store_dir.is_dir():
        yield note(
            str(paths.store_dir), f"will be made anew: {why}",
            "the next start does it from snapshot and log, and needs room for it",
        )  # fmt: skip
    if paths.resync_file.exists():
        yield note(
            str(paths.resync_file), "tells of a full resync that was not ended",
            "the next start ends it, or begins it anew",
        )  # fmt: skip


def aside_findings(paths: NodePaths) -> Iterator[Finding]:
    """Yield what was put aside and waits for somebody to look."""
    meanings = {
        paths.foreign_dir: ("files of another history, or damaged ones", "look what they are"),
        paths.diverged_dir: (
            "entries that its master's log lacks",
            "look whether clients were told of them (`synap wal show`)",
        ),
    }
    for folder, (what, remedy) in meanings.items():
        numbers = sorted(folder.iterdir()) if folder.is_dir() else []
        if numbers:
            size = sum(facts.st_size for _, facts in _entries(folder))
            names = _few(numbers, folder)
            yield warning(
                str(folder), f"keeps {what}, as {names}: {size} bytes",
                f"{remedy}, then remove it: no node ever does",
            )  # fmt: skip


def backup_findings(folder: Path, now_ms: int) -> Iterator[Finding]:
    """Yield whether the newest backup in a folder is young and whole."""
    try:
        found = [each for each in folder.iterdir() if each.is_file() and is_backup(each)]
    except OSError as error:
        yield fault(str(folder), f"can't be read: {error.strerror}", "name the folder of backups")
        return
    if not found:
        yield fault(str(folder), "holds no backup", "`ops/backup.sh` takes them, from cron say")
        return
    newest = max(found, key=lambda each: each.stat().st_mtime)
    try:
        manifest, _ = verify_backup(newest)
    except (BackupError, OSError) as error:
        yield fault("", f"{error}", "take another one; the older ones may be whole")
        return
    hours = (now_ms - manifest.created_ms) / _HOUR_MS
    if hours > _BACKUP_HOURS:
        yield warning(
            str(newest), f"is the newest backup, {hours:.0f} h old", "see why cron takes none"
        )


def _checked(wal_dir: Path) -> LogReport:
    try:
        return check_log(wal_dir)
    except FileNotFoundError:
        # A node that runs removes old segments.
        return check_log(wal_dir)


def _identity(paths: NodePaths) -> tuple[NodeIdentity | None, list[Finding]]:
    try:
        return read_identity(paths.node_file), []
    except FileNotFoundError:
        if has_segments(paths.wal_dir) if paths.wal_dir.is_dir() else False:
            return None, [
                fault(
                    str(paths.node_file), "is missing, and there is a log beside it",
                    "put it back from a copy; docs/operations.md, \"After a crash\"",
                )
            ]  # fmt: skip
        return None, [
            note(str(paths.data_dir), "has held no node yet", "the first start makes one there")
        ]
    except DataDirUnusable as error:
        return None, [fault("", str(error), 'docs/operations.md, "After a crash"')]


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what is in a folder and below it, bounded, links as such.

    What can't be read, or goes meanwhile, is left out: the node may run.
    """
    left = _MOST_ENTRIES
    for inner, folders, files in os.walk(folder):
        for path in (Path(inner, name) for name in (*folders, *files)):
            with suppress(OSError):
                yield path, path.lstat()
            left -= 1
            if not left:
                return


def _few(paths: list[Path], data_dir: Path) -> str:
    shown = ", ".join(str(path.relative_to(data_dir)) for path in paths[:3])
    return shown + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _store_bytes(store_dir: Path) -> int:
    """Return about how long an image of the live store gets: the blocks that it has."""
    files = (facts for path, facts in _entries(store_dir) if path.name == DATA_FILE)
    return max((facts.st_blocks * 512 for facts in files), default=0)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
