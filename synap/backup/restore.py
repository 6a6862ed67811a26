"""A data directory made of a backup or a snapshot, and of a part of a log on top of it.

The result is what a node recovers from: `node.json` and a verified snapshot. It begins a new epoch
with a history of its own, because what it writes next is not what the source wrote there. All is
built in a folder beside the target and renamed at the end, so that a restore that fails leaves
nothing half done.

Entries are the unit of offsets, frames that of the log. Where the target lies inside a frame, the
whole frames before it make the snapshot, and the frame's first entries become a frame of the new
reign in a segment of its own: no reign is said to have written what it did not, and no other node
can take the place for one in its own log.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from synap.backup.archive import StoredImage, is_backup, shown_time, verify_backup
from synap.disk import DISK, NO_ROOM, Files, write_all, write_file
from synap.errors import DiskFull, RestoreRefused, StoreError
from synap.frame import Frame, encode_frame
from synap.node.identity import NodeIdentity, new_reign, write_identity
from synap.position import Lineage, Position, Reign
from synap.snapshot.apart import walk_apart
from synap.snapshot.folder import Manifest, prune, snapshot_path
from synap.snapshot.folder import read_manifest as read_snapshot_manifest
from synap.snapshot.image import Look, unpack_image, write_snapshot
from synap.store import Applied, Bulk, ImageFacts, Store, digest_image, look_into
from synap.store.generations import DATA_FILE
from synap.wal.segment import SegmentHeader, segment_path
from synap.wal.walk import DEFAULT_STEM, LogWalk, Walked, headers_in

# Address space for the store that a log is replayed into; see `synap.node.recovery`.
_MAP_BYTES = 1 << 40
# As much is applied in one transaction.
_REPLAY_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
# What a file system of its own has in its topmost folder.
_LOST_AND_FOUND = "lost+found"

Step = Callable[[str], None]


class Target(msgspec.Struct, frozen=True):
    """How far a log is replayed; all of it where both are None.

    Attributes:
        offset: Up to and with this entry.
        time_ms: Up to the last frame before the first that is younger than this wall clock.
    """

    offset: int | None = None
    time_ms: int | None = None


class Restored(msgspec.Struct, frozen=True):
    """What a restore made.

    Attributes:
        data_dir: The data directory.
        offset: Last offset in it.
        time_ms: Wall clock of that entry's frame; 0 without any.
        image_offset: Offset of the backup or snapshot.
        keys: Keys in the snapshot.
        digest: The image's digest where nothing was replayed on it, else empty.
        replayed_frames: Frames of the log that were applied, with one that was divided.
        divided: First and last offset of the frame that the target lies in; None where in none.
        reign: The reign that the node begins.
        note: What else the operator should know; empty for nothing.
    """

    data_dir: Path
    offset: int
    time_ms: int
    image_offset: int
    keys: int
    digest: str
    replayed_frames: int
    divided: tuple[int, int] | None
    reign: Reign
    note: str


def restore(
    source: Path,
    data_dir: Path,
    *,
    now_ms: int,
    wal_dir: Path | None = None,
    target: Target | None = None,
    on_step: Step = lambda _: None,
    files: Files = DISK,
) -> Restored:
    """Make `data_dir` of the backup or snapshot `source`.

    Args:
        source: A backup, or a snapshot's .bin file with its manifest beside it.
        data_dir: Must not exist or be empty.
        now_ms: Wall clock.
        wal_dir: Segments of the same log to replay; read, never changed.
        target: How far.
        on_step: Told what is done next.

    Raises:
        BackupInvalid, SnapshotInvalid: the source is not sound.
        RestoreRefused: the directory holds something, or what is asked for can't be had.
        DiskFull: there is no room.
        StoreError: the disk refused otherwise.
    """
    target = target or Target()
    if wal_dir is None and target != Target():
        raise RestoreRefused("an offset or a time to restore to needs the log: give --wal")
    is_volume = os.path.ismount(data_dir)
    work = _work_folder(data_dir, is_volume=is_volume)
    with suppress(OSError):
        _clear_abandoned(work, files)
    _check_target(data_dir, is_volume=is_volume)
    lock = -1
    try:
        files.make_directory(work.parent)
        files.make_new_directory(work)
        lock = _lock_folder(work)
        restored = _Restoring(source, work, now_ms, on_step, files).run(wal_dir, target)
        on_step("putting it in place")
        _put_in_place(work, data_dir, files, is_volume=is_volume)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(f"no room to restore to {data_dir}; nothing was restored") from error
        raise StoreError(f"{source} can't be restored to {data_dir}: {error}") from error
    finally:
        with suppress(OSError):
            files.remove_tree(work)
        if lock >= 0:
            os.close(lock)
    return msgspec.structs.replace(restored, data_dir=data_dir)


class _Restoring:
    """One restore, into a folder that nobody else knows."""

    def __init__(self, source: Path, work: Path, now_ms: int, on_step: Step, files: Files) -> None:
        self._source = source
        self._files = files
        self._work = work
        self._snapshots = work / "snapshots"
        self._now_ms = now_ms
        self._on_step = on_step

    def run(self, wal_dir: Path | None, target: Target) -> Restored:
        self._files.make_new_directory(self._snapshots)
        image, digest, lineage = self._place_image()
        path = snapshot_path(self._snapshots, image.position.offset)
        restored = Restored(
            data_dir=self._work,
            offset=image.position.offset,
            time_ms=image.time_ms,
            image_offset=image.position.offset,
            keys=image.keys,
            digest=digest,
            replayed_frames=0,
            divided=None,
            reign=new_reign(_next_epoch(lineage), image.position.offset + 1),
            note="",
        )
        if wal_dir is not None:
            replay = _Replay(self._work, path, image, wal_dir, target, self._files)
            self._on_step(f"replaying the log in {wal_dir}")
            restored, lineage = replay.run(restored, lineage, self._now_ms)
        lineage = _with_reign(lineage, restored.reign)
        identity = NodeIdentity(secrets.token_hex(8), "standalone", lineage)
        write_identity(self._work / "node.json", identity, self._files)
        return restored

    def _place_image(self) -> tuple[Manifest, str, Lineage]:
        """Make the source a snapshot of the new directory; return what it is."""
        self._on_step(f"reading {self._source}")
        if not is_backup(self._source):
            return self._place_snapshot()
        backup, _ = verify_backup(self._source)
        self._on_step("writing the image")
        image = self._write(StoredImage(self._source), backup.lineage, walk_apart)
        self._on_step("comparing the digest")
        facts, digest = digest_image(snapshot_path(self._snapshots, image.position.offset))
        if (facts.keys, digest) != (backup.keys, backup.digest):
            raise RestoreRefused(
                f"what {self._source} restores to has {facts.keys} keys and digest {digest}; its "
                f"manifest says {backup.keys} and {backup.digest}"
            )
        return image, digest, backup.lineage

    def _place_snapshot(self) -> tuple[Manifest, str, Lineage]:
        manifest = read_snapshot_manifest(self._source)
        folder = self._work / "unpacked"
        self._files.make_new_directory(folder)
        unpack_image(self._source, manifest, folder, self._files, look=walk_apart)
        self._on_step("writing the image")
        image = self._write(_Unpacked(folder / DATA_FILE, manifest), manifest.lineage, look_into)
        _, digest = digest_image(folder / DATA_FILE)
        self._files.remove_tree(folder)
        return image, digest, manifest.lineage

    def _write(self, image: StoredImage | _Unpacked, lineage: Lineage, look: Look) -> Manifest:
        return write_snapshot(
            image, self._snapshots, lineage,
            compress=False, now_ms=self._now_ms, files=self._files, look=look,
        )  # fmt: skip


class _Unpacked:
    """An uncompressed image of a snapshot, as `write_snapshot` takes it."""

    def __init__(self, data: Path, manifest: Manifest) -> None:
        self._data = data
        self._manifest = manifest

    def copy_to(self, file: int) -> ImageFacts:
        try:
            with self._data.open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    write_all(file, chunk)
        except OSError as error:
            raise StoreError(f"{self._data} can't be copied: {error}") from error
        manifest = self._manifest
        return ImageFacts(Applied(manifest.position, 0, 0, manifest.time_ms), manifest.keys)


class _Replay:
    """A log applied on top of an image, up to the target."""

    def __init__(
        self,
        work: Path,
        path: Path,
        image: Manifest,
        wal_dir: Path,
        target: Target,
        files: Files,
    ) -> None:
        self._work = work
        self._files = files
        self._path = path
        self._image = image
        self._wal_dir = wal_dir
        self._target = target
        self._applied = Applied(image.position, 0, 0, image.time_ms)
        self._frames = 0
        self._reigns: list[Reign] = []
        self._split: Walked | None = None
        self._note = ""

    def run(self, restored: Restored, lineage: Lineage, now_ms: int) -> tuple[Restored, Lineage]:
        """Replay; the snapshot of the end takes the place of the image's."""
        walk = self._check()
        epoch = _next_epoch((*lineage, *(_reign_of(h) for h in headers_in(self._wal_dir))))
        store = Store.prepare(self._work / "replay", _MAP_BYTES, self._unpack, self._files)
        try:
            self._apply_all(store, walk)
            lineage = self._lineage_behind(lineage)
            if self._frames:
                end = write_snapshot(
                    store.reader(), self._path.parent, lineage,
                    compress=False, now_ms=now_ms, files=self._files,
                )  # fmt: skip
                prune(self._path.parent, keep=1, files=self._files)
                restored = msgspec.structs.replace(restored, keys=end.keys, digest="")
        finally:
            store.close(clean=False)
        self._files.remove_tree(self._work / "replay")
        return self._finish(restored, epoch), lineage

    def _check(self) -> LogWalk:
        """Refuse what can be seen not to work before anything is done."""
        image, target = self._image, self._target
        if target.offset is not None and target.offset < image.position.offset:
            raise RestoreRefused(
                f"{self._path.name} holds offset {image.position.offset} already, which is after "
                f"{target.offset}; take an older backup"
            )
        if target.time_ms is not None and target.time_ms < image.time_ms:
            raise RestoreRefused(
                f"the image's last write is of {shown_time(image.time_ms)}, younger than "
                f"{shown_time(target.time_ms)}; take an older backup"
            )
        walk = LogWalk(self._wal_dir)
        if walk.first_offset is None:
            raise RestoreRefused(f"{self._wal_dir} holds no segments of a log")
        if walk.first_offset > image.position.offset + 1:
            raise RestoreRefused(
                f"the log in {self._wal_dir} begins at offset {walk.first_offset}, and the image "
                f"ends at {image.position.offset}; a newer backup or older segments are needed"
            )
        return walk

    def _unpack(self, folder: Path) -> None:
        unpack_image(self._path, self._image, folder, self._files)

    def _apply_all(self, store: Store, walk: LogWalk) -> None:
        batch: list[Walked] = []
        batch_bytes = 0
        for each in self._wanted(walk):
            batch.append(each)
            batch_bytes += len(each.frame.encoded)
            if batch_bytes >= _REPLAY_BYTES:
                self._apply(store, batch)
                batch, batch_bytes = [], 0
        if batch:
            self._apply(store, batch)

    def _wanted(self, walk: LogWalk) -> Iterator[Walked]:
        """Yield the frames between the image and the target."""
        image = self._image.position
        is_joined = False
        for each in walk.frames(image.offset):
            if each.frame.last_offset <= image.offset:
                continue
            if not is_joined and each.before != image:
                raise self._foreign()
            is_joined = True
            if self._is_behind_target(each.frame):
                self._split = self._split_of(each)
                self._check_stamps_behind(each.frame)
                return
            reign = _reign_of(each.header)
            if reign.epoch > max((known.epoch for known in self._reigns), default=0):
                self._reigns.append(reign)
            yield each
            if each.frame.last_offset == self._target.offset:
                # What comes after need not even be sound.
                return
        self._check_end(walk)

    def _is_behind_target(self, frame: Frame) -> bool:
        target = self._target
        if target.offset is not None and frame.last_offset > target.offset:
            return True
        return target.time_ms is not None and frame.time_ms > target.time_ms

    def _check_stamps_behind(self, first: Frame) -> None:
        """Refuse where what comes after the target's time has frames of before it again.

        Then a clock was wrong: whether the first of these frames is, or those after it, only
        somebody who knows can say. What can't be read of the rest has no say.
        """
        target_ms = self._target.time_ms
        if target_ms is None or first.time_ms <= target_ms:
            return
        older = [
            each.frame.last_offset
            for each in LogWalk(self._wal_dir).frames(first.last_offset)
            if each.frame.first_offset > first.last_offset and each.frame.time_ms <= target_ms
        ]
        if older:
            raise RestoreRefused(
                f"the clock of this log was wrong: offset {first.first_offset} is of "
                f"{shown_time(first.time_ms)}, after {shown_time(target_ms)}, and {len(older)} "
                f"writes behind it, up to offset {older[-1]}, are of before. Say which you mean: "
                f"--to-offset {first.first_offset - 1}, or --to-offset {older[-1]}"
            )

    def _split_of(self, each: Walked) -> Walked | None:
        """Return the frame that the target's offset lies in."""
        target, frame = self._target, each.frame
        is_younger = target.time_ms is not None and frame.time_ms > target.time_ms
        if is_younger or target.offset is None or target.offset < frame.first_offset:
            return None
        return each

    def _check_end(self, walk: LogWalk) -> None:
        """Refuse where the log ended before the target."""
        image, end, target = self._image.position, walk.end, self._target
        if end.offset < image.offset:
            raise RestoreRefused(
                f"the log in {self._wal_dir} ends at offset {end.offset}, before the image's "
                f"{image.offset}: restore without --wal"
            )
        if end.offset == image.offset and end != image:
            raise self._foreign()
        bad = walk.bad_place()
        is_short = target.offset is not None and end.offset < target.offset
        if bad is not None and not (bad.is_torn and not is_short):
            raise RestoreRefused(
                f"{bad.path} is {'torn' if bad.is_torn else 'damaged'} at byte "
                f"{bad.byte_position}: {bad.detail}. Everything up to offset {end.offset} can be "
                f"had: --to-offset {end.offset}"
            )
        if is_short:
            raise RestoreRefused(
                f"the log in {self._wal_dir} ends at offset {end.offset}, before {target.offset}"
            )
        if bad is not None:
            self._note = f"the log ends inside a write, at byte {bad.byte_position} of {bad.path}"

    def _foreign(self) -> RestoreRefused:
        return RestoreRefused(
            f"the log in {self._wal_dir} does not stand at {self._image.position}, where the image "
            "does: they are of different nodes, or of different histories of one"
        )

    def _apply(self, store: Store, batch: Sequence[Walked]) -> None:
        transaction = store.begin()
        try:
            transaction.apply_many(Bulk([each.frame for each in batch]))
            header, _, last = batch[-1]
            self._applied = Applied(last.position, 0, 0, last.time_ms, header.history)
            transaction.set_applied(self._applied)
            transaction.commit()
        except BaseException:
            transaction.abort()
            raise
        self._frames += len(batch)

    def _lineage_behind(self, lineage: Lineage) -> Lineage:
        """Return the reigns that wrote what is applied now."""
        newest = self._image.position.epoch
        reigns = (*lineage, *(reign for reign in self._reigns if reign.epoch > newest))
        offset = self._applied.position.offset
        epochs = {reign.epoch: reign for reign in reigns if reign.first_offset <= offset}
        return tuple(epochs[epoch] for epoch in sorted(epochs))

    def _finish(self, restored: Restored, epoch: int) -> Restored:
        applied = self._applied
        position = applied.position
        reign = new_reign(epoch, position.offset + 1)
        restored = msgspec.structs.replace(
            restored,
            offset=position.offset,
            time_ms=applied.time_ms,
            replayed_frames=self._frames,
            reign=reign,
            note=self._note,
        )
        if self._split is None:
            return restored
        whole, wanted = self._split.frame, self._target.offset
        assert wanted is not None
        folder = self._work / "wal"
        frame = _write_part(folder, self._split, wanted, position, reign, self._files)
        return msgspec.structs.replace(
            restored,
            offset=frame.last_offset,
            time_ms=frame.time_ms,
            replayed_frames=self._frames + 1,
            divided=(whole.first_offset, whole.last_offset),
        )


def _write_part(
    folder: Path,
    each: Walked,
    last_offset: int,
    before: Position,
    reign: Reign,
    files: Files,
) -> Frame:
    """Write a log of one frame with the first entries of a frame; return the frame."""
    whole = each.frame
    entries = islice(whole.entries(), last_offset - whole.first_offset + 1)
    frame = encode_frame(entries, previous=before, epoch=reign.epoch, time_ms=whole.time_ms)
    header = SegmentHeader(
        reign.history, reign.epoch, reign.first_offset, before.epoch, before.rolling,
        each.header.created_ms,
    )  # fmt: skip
    files.make_new_directory(folder)
    path = segment_path(folder, DEFAULT_STEM, reign.first_offset)
    write_file(path, header.encode() + frame.encoded, mode=0o640, files=files)
    return frame


def _reign_of(header: SegmentHeader) -> Reign:
    return Reign(header.epoch, header.history, header.first_offset)


def _next_epoch(lineage: Lineage) -> int:
    return max((reign.epoch for reign in lineage), default=0) + 1


def _with_reign(lineage: Lineage, reign: Reign) -> Lineage:
    """Return `lineage` as it goes on with `reign`, without reigns that wrote nothing before it."""
    return (*(each for each in lineage if each.first_offset < reign.first_offset), reign)


def _work_folder(data_dir: Path, *, is_volume: bool) -> Path:
    """Return the folder of this process's work, on the file system of the target."""
    name = f".{data_dir.name}.restoring-{os.getpid()}"
    return data_dir / name if is_volume else data_dir.absolute().with_name(name)


def _clear_abandoned(work: Path, files: Files) -> None:
    """Remove what restores to the same place left behind that were killed.

    Raises:
        OSError: the folder of it can't be read, or something there not be removed.
    """
    prefix = work.name[: work.name.rindex("-") + 1]
    for name in files.names(work.parent):
        if not name.startswith(prefix):
            continue
        with suppress(BlockingIOError):
            # One that is at work holds its lock.
            lock = _lock_folder(work.with_name(name))
            try:
                files.remove_tree(work.with_name(name))
            finally:
                os.close(lock)


def _lock_folder(folder: Path) -> int:
    """Lock `folder` for as long as the returned descriptor is open.

    Raises:
        BlockingIOError: somebody holds it.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_target(data_dir: Path, *, is_volume: bool) -> None:
    """Refuse a target that holds something."""
    try:
        held = sorted(os.listdir(data_dir))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise RestoreRefused(f"{data_dir} is no directory") from error
    if is_volume:
        held = [name for name in held if name != _LOST_AND_FOUND]
    if held:
        named = ", ".join(held[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "")
        raise RestoreRefused(
            f"{data_dir} is not empty, it holds {named}; choose another directory or move that away"
        )


def _put_in_place(work: Path, data_dir: Path, files: Files, *, is_volume: bool) -> None:
    if is_volume:
        # The root of a file system can't be replaced. `node.json` comes last: without it no node
        # takes the rest for its own.
        moved: list[Path] = []
        try:
            for each in sorted(work.iterdir(), key=lambda path: path.name == "node.json"):
                files.sync_directory(work)
                files.rename(each, data_dir / each.name)
                moved.append(each)
            files.sync_directory(data_dir)
        except OSError:
            with suppress(OSError):
                for each in reversed(moved):
                    files.rename(data_dir / each.name, each)
            raise
        return
    files.sync_directory(work)
    files.rename(work, data_dir)
    files.sync_directory(data_dir.absolute().parent)
