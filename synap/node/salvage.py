"""Single records, made anew from the node's own snapshot and log.

What the live store has of a key is what a snapshot has of it and what the log did to it since. So a
record that the live store has damaged is had again without touching any other: the newest snapshot
whose file is what it was is read at the wanted keys, and then the log behind it. It reads all of
that once, for any number of keys: for a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from synap.errors import SynapError
from synap.frame import DEL, FLUSH, SET, Entry
from synap.position import START, Position
from synap.snapshot.folder import Manifest, snapshots
from synap.snapshot.image import unpack_image
from synap.store.generations import DATA_FILE
from synap.store.image import records_in
from synap.store.layout import encode_record
from synap.store.scrubbing import Suspect
from synap.wal.walk import LogWalk


class Salvaged(msgspec.Struct, frozen=True):
    """What snapshot and log lead to.

    Attributes:
        offset: The last offset that was read.
        records: What the live store should have at each place, None for nothing.
    """

    offset: int
    records: list[tuple[Suspect, bytes | None]]


class SalvageFailed(SynapError):
    """Snapshot and log don't lead to a whole state of the records."""

    reason = "salvage_failed"


def salvage(snapshots_dir: Path, wal_dir: Path, wanted: Iterable[Suspect]) -> Salvaged:
    """Return what the snapshot and the log say of records.

    Raises:
        SalvageFailed: there is none that verifies and that the log continues without damage.
        OSError: the files can't be read.
    """
    places = set(wanted)
    faults: list[str] = []
    for path, manifest in snapshots(snapshots_dir):
        try:
            found = _records_of(path, manifest, places)
            return _follow(wal_dir, manifest.position, found)
        except SynapError as error:
            faults.append(error.message)
    try:
        return _follow(wal_dir, START, dict.fromkeys(places))
    except SalvageFailed as error:
        raise SalvageFailed("; ".join([*faults, error.message])) from error


def _records_of(
    path: Path, manifest: Manifest, places: set[Suspect]
) -> dict[Suspect, bytes | None]:
    """Read a snapshot at some places, once it was verified, beside itself.

    Raises:
        SnapshotInvalid: it is not what its manifest says.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="snapshot.", suffix=".tmp") as name:
        folder = Path(name)
        unpack_image(path, manifest, folder)
        found = records_in(folder / DATA_FILE, [(each.space, each.key) for each in places])
        return {Suspect(space, key): raw for (space, key), raw in found.items()}


def _follow(wal_dir: Path, base: Position, records: dict[Suspect, bytes | None]) -> Salvaged:
    """Carry the log behind `base` out on some records.

    Raises:
        SalvageFailed: the log does not continue `base`, or is damaged.
    """
    walk = LogWalk(wal_dir)
    begins = walk.first_offset
    if begins is not None and begins > base.offset + 1:
        raise SalvageFailed(f"the log begins at offset {begins}, after {base}")
    at = base
    for walked in walk.frames(base.offset):
        frame = walked.frame
        if frame.last_offset <= base.offset:
            continue
        if walked.before != at:
            raise SalvageFailed(f"the log does not continue {at}")
        at = frame.position
        for offset, entry in enumerate(frame.entries(), frame.first_offset):
            _carry_out(entry, offset, records)
    bad = walk.bad_place()
    if bad is not None and not bad.is_torn:
        raise SalvageFailed(f"{bad.path} is damaged at byte {bad.byte_position}")
    return Salvaged(at.offset, list(records.items()))


def _carry_out(entry: Entry, offset: int, records: dict[Suspect, bytes | None]) -> None:
    place = Suspect(entry.space, entry.key)
    if entry.operation == FLUSH:
        for each in records:
            if each.space == entry.space and each.key.startswith(entry.key):
                records[each] = None
    elif place not in records:
        return
    elif entry.operation == SET:
        records[place] = encode_record(entry.key, offset, entry.expiry_ms, entry.value)
    elif entry.operation == DEL:
        records[place] = None
