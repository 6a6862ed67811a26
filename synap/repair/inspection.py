"""What a file or folder of Synap is and holds, for an operator; read only, safe beside a node."""

from __future__ import annotations

from pathlib import Path

import msgspec

from synap.backup.archive import is_backup, look_into_backup, verify_backup
from synap.errors import BackupError, SnapshotInvalid
from synap.node.identity import read_identity
from synap.position import Lineage, Position
from synap.snapshot.apart import walk_apart
from synap.snapshot.folder import damaged_manifests, snapshots
from synap.snapshot.image import verify_snapshot
from synap.store import is_trusted
from synap.wal.scan import BadPlace
from synap.wal.segment import MAGIC as SEGMENT_MAGIC
from synap.wal.walk import LogWalk, WalkedSegment, check_log, has_segments


class Fact(msgspec.Struct, frozen=True):
    """One thing that is known.

    Attributes:
        name: A word or two, as `created_ms`.
        value: Text, a number, true or false, or a list of texts.
    """

    name: str
    value: str | int | bool | tuple[str, ...] | None


class Inspection(msgspec.Struct, frozen=True):
    """What something is.

    Attributes:
        kind: `backup`, `snapshot`, `segment`, `log` or `data directory`.
        path: Where it is.
        facts: In the order of their weight.
        is_sound: Nothing bad was found; a torn tail is not bad.
    """

    kind: str
    path: Path
    facts: tuple[Fact, ...]
    is_sound: bool = True


def inspect(path: Path) -> Inspection:
    """Look at a backup, a snapshot, a segment, a log's folder or a data directory; read all of it.

    Raises:
        BackupInvalid, SnapshotInvalid: it is one, and not sound.
        BackupError: it is nothing that is known.
        OSError: it can't be read.
    """
    if path.is_dir():
        if (path / "node.json").exists():
            return _data_dir(path)
        if has_segments(path):
            return _log(path)
        raise BackupError(f"{path} is neither a data directory nor a log's folder")
    if path.suffix == ".json" and path.with_suffix(".bin").exists():
        path = path.with_suffix(".bin")
    if is_backup(path):
        return _backup(path)
    with path.open("rb") as file:
        if file.read(len(SEGMENT_MAGIC)) == SEGMENT_MAGIC:
            return _segment(path)
    if path.name.startswith("snapshot_"):
        return _snapshot(path)
    raise BackupError(f"{path} is no backup, no snapshot and no segment of a log")


def words_for(bad: BadPlace | None) -> str | None:
    """Say what a bad place is; None where there is none."""
    if bad is None:
        return None
    kind = "torn" if bad.is_torn else "damaged"
    return f"{kind} at byte {bad.byte_position} of {bad.path.name}: {bad.detail}"


def _backup(path: Path) -> Inspection:
    _, checksum = verify_backup(path)
    manifest = look_into_backup(path, walk_apart)
    return Inspection(
        "backup",
        path,
        (
            *_position_facts(manifest.position, manifest.time_ms),
            Fact("keys", manifest.keys),
            Fact("digest", manifest.digest),
            Fact("created_ms", manifest.created_ms),
            Fact("node", manifest.node_name),
            Fact("node_id", manifest.node_id),
            Fact("role", manifest.role),
            _lineage_fact(manifest.lineage),
            Fact("image_bytes", manifest.bytes),
            Fact("bytes", path.stat().st_size),
            Fact("checksum", f"sha256:{checksum}"),
            Fact("version", manifest.version),
        ),
    )


def _snapshot(path: Path) -> Inspection:
    manifest = verify_snapshot(path)
    return Inspection(
        "snapshot",
        path,
        (
            *_position_facts(manifest.position, manifest.time_ms),
            Fact("keys", manifest.keys),
            Fact("created_ms", manifest.created_ms),
            _lineage_fact(manifest.lineage),
            Fact("bytes", manifest.bytes),
            Fact("compression", manifest.compression),
            Fact("checksum", f"sha256:{manifest.sha256}"),
        ),
    )


def _segment(path: Path) -> Inspection:
    walk = LogWalk(path.parent)
    seen = walk.walk_alone(path)
    header = seen.header
    bad = walk.bad_place()
    history = None if header is None else header.history.hex()
    return Inspection(
        "segment",
        path,
        (
            *_span_facts((seen,)),
            Fact("epoch", None if header is None else header.epoch),
            Fact("history", history),
            Fact("created_ms", None if header is None else header.created_ms),
            Fact("after", None if header is None else str(header.base)),
            Fact("bytes", seen.size),
            Fact("bad_place", words_for(bad)),
        ),
        is_sound=bad is None or bad.is_torn,
    )


def _log(path: Path) -> Inspection:
    report = check_log(path)
    reigns = {(s.header.epoch, s.header.history) for s in report.segments if s.header is not None}
    return Inspection(
        "log",
        path,
        (
            Fact("segments", len(report.segments) + len(report.unread)),
            *_span_facts(report.segments),
            Fact("epochs", tuple(f"{epoch}:{history.hex()}" for epoch, history in sorted(reigns))),
            Fact("position", str(report.position)),
            Fact("bytes", sum(segment.size for segment in report.segments)),
            Fact("bad_place", words_for(report.bad)),
        ),
        is_sound=report.bad is None or report.bad.is_torn,
    )


def _data_dir(path: Path) -> Inspection:
    identity = read_identity(path / "node.json")
    facts = [
        Fact("node_id", identity.id),
        Fact("role", identity.role),
        _lineage_fact(identity.lineage),
    ]
    is_sound = True
    wal_dir = path / "wal"
    if wal_dir.is_dir() and has_segments(wal_dir):
        log = _log(wal_dir)
        is_sound = log.is_sound
        facts += [Fact(f"log_{fact.name}", fact.value) for fact in log.facts]
    held = [_snapshot_words(image) for image, _ in snapshots(path / "snapshots")]
    damaged = [f"{image.name}: {why}" for image, why in damaged_manifests(path / "snapshots")]
    facts.append(Fact("snapshots", (*(words for words, _ in held), *damaged)))
    is_sound = is_sound and not damaged and all(is_whole for _, is_whole in held)
    trusted, reason = is_trusted(path / "store")
    facts.append(Fact("store", f"{'usable' if trusted else 'to be rebuilt'}: {reason}"))
    for name in ("foreign", "diverged"):
        folder = path / name
        aside = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        facts.append(Fact(name, tuple(aside)))
    return Inspection("data directory", path, tuple(facts), is_sound=is_sound)


def _snapshot_words(path: Path) -> tuple[str, bool]:
    """Return what a snapshot of a data directory is, and whether it is sound."""
    try:
        return f"{path.name} ({verify_snapshot(path).keys} keys)", True
    except SnapshotInvalid as error:
        return f"{path.name}: {error.why}", False


def _position_facts(position: Position, time_ms: int) -> tuple[Fact, ...]:
    return (
        Fact("offset", position.offset),
        Fact("epoch", position.epoch),
        Fact("position", str(position)),
        Fact("time_ms", time_ms or None),
    )


def _span_facts(segments: tuple[WalkedSegment, ...]) -> tuple[Fact, ...]:
    filled = [segment for segment in segments if segment.frames]
    return (
        Fact("frames", sum(segment.frames for segment in segments)),
        Fact("entries", sum(segment.entries for segment in segments)),
        Fact("first_offset", filled[0].first_offset if filled else None),
        Fact("last_offset", filled[-1].last_offset if filled else None),
        Fact("first_time_ms", filled[0].first_time_ms if filled else None),
        Fact("last_time_ms", filled[-1].last_time_ms if filled else None),
    )


def _lineage_fact(lineage: Lineage) -> Fact:
    return Fact("reigns", tuple(str(reign) for reign in lineage))
