"""The fake disk of a node: its log, its live store, its identity and its snapshots.

It keeps the real disk's rules: `Node` for the identity, `Wal` and `Log` for what may follow what.
What was synced survives a crash of the machine; of the rest, some beginning does. The live store is
never synced: each of its pages may be of another moment then, also where only the disk went away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from synap.errors import (
    DiskFull,
    FrameCorrupt,
    OffsetGap,
    OffsetNotRetained,
    OffsetUnknown,
    WalCorrupt,
)
from synap.frame import Entry, Frame, check_frame, encode_frame, follows
from synap.node.data_dir import reign_at_end
from synap.node.identity import Node, NodeIdentity, new_reign
from synap.position import START, Lineage, Position, Reign, check_next_reign
from synap.replication.rules.resync import Install
from synap.snapshot.folder import Manifest
from tests.simulation.store import Changes, LiveStore, Records, change, changes_of, with_flipped_bit

# Frames in a chunk of catch-up, so that tiny logs take several.
_CHUNK_FRAMES = 3


class Identity(Node):
    """`node.json` on a disk that makes it durable at once."""

    def _keep(self, identity: NodeIdentity) -> None:
        self.identity = identity


class Disk:
    """One node's disk. The log of its owner, as `ReplicaLog` and `ReadableLog` want it.

    Attributes:
        node: Role and lineage.
        store: What readers see.
        held: What the log comes to, whatever the store shows; the judge knows it, not the node.
        position: The end of the log.
        ever_held: Every key that was durable here at some time.
        lost: Keys that went with the end of the log when that was lost last.
        aside: Offset and rolling checksum of each frame in `diverged/`.
        snapshots: Newest first.
        known_replicas: What `replicas.json` holds.
    """

    def __init__(
        self, name: str, random: Random, histories: Random, *, is_master: bool, is_synced: bool
    ) -> None:
        """
        Args:
            histories: Gives the ids of reigns.
            is_synced: fsync_mode is `always`.
        """
        self._random = random
        self.is_always_synced = is_synced
        self.node = Identity(
            Path("node.json"),
            NodeIdentity(
                id=name,
                role="master" if is_master else "replica",
                lineage=(new_reign(1, 1, histories.randbytes),) if is_master else (),
                has_synced=is_master,
            ),
            draw=histories.randbytes,
        )
        self.store = LiveStore()
        self.held: Records = {}
        self.ever_held: set[bytes] = set()
        self.lost: set[bytes] = set()
        self.aside: set[tuple[int, int]] = set()
        self.snapshots: list[tuple[Manifest, bytes]] = []
        self.known_replicas: set[str] = set()
        self.full_share = 0.0
        self.pins: list[int] = []
        self.frames: list[Frame] = []
        self.base = self.position = START
        self._base_store = LiveStore()
        self._base_time_ms = 0
        self._synced_offset = 0
        # The kernel's boot and the disk's mount, and those under which the store was last written;
        # None for a store that is put aside.
        self._boot = self._mount = 0
        self._home: tuple[int, int] | None = (0, 0)
        # As they were before a bit flipped, by last offset: the judge's.
        self._pristine: dict[int, Frame] = {}
        # The first offset after damage that is given out; 0 for none found.
        self._sound_offset = 0
        # Headers of the segments: first offset and reign of each.
        self._segments: list[Reign] = []

    @property
    def lineage(self) -> Lineage:
        return self.node.lineage

    @property
    def sealed_epoch(self) -> int:
        return self.node.identity.sealed_epoch

    @property
    def sealed_for(self) -> str:
        return self.node.identity.sealed_for

    @property
    def first_offset(self) -> int:
        return max(self.base.offset + 1, self._sound_offset)

    @property
    def is_damaged(self) -> bool:
        """Whether damage of the log was found that no snapshot makes up for."""
        covered = max((held.position.offset for held, _ in self.snapshots), default=0)
        return max(self.base.offset, covered) + 1 < self._sound_offset

    @property
    def applied_time_ms(self) -> int:
        return self.frames[-1].time_ms if self.frames else self._base_time_ms

    @property
    def durable_offset(self) -> int:
        return self.position.offset if self.is_always_synced else self._synced_offset

    @property
    def has_synced(self) -> bool:
        return self.node.identity.has_synced

    def note_synced(self) -> None:
        self.node.note_synced()

    def adopt(self, lineage: Lineage) -> None:
        self.node.adopt(lineage)

    def promote(self, addresses: tuple[str, str] | None, epoch: int = 0) -> None:
        """Become a master in a new reign, as `DataDir.promote` does."""
        self.sync()
        self.node.promote(self.position.offset, addresses, epoch)

    def append_frames(self, frames: Sequence[Frame]) -> None:
        """Log and apply frames by the rules of `Log.append_frames` and `Wal`."""
        for frame in frames:
            reign = reign_at_end(self.lineage, self.position, frame.epoch)
            self._make_room()
            self.begin_reign(reign)
            self._append(frame)

    def open(self) -> bool:
        """Have the store stand at the log's end, as recovery does; return whether it was rebuilt.

        Raises:
            WalCorrupt: a frame is damaged that it needs.
        """
        at = self.store.position
        is_there = self.base.offset <= at.offset <= self.position.offset
        is_usable = self.is_store_trusted() and is_there and self._passed(at.offset) == at
        if not is_usable:
            self.store = self._newest_image()
        behind = self.store.position.offset
        for frame in self.frames:
            if frame.first_offset > behind:
                self._check(frame)
                self.store.apply(frame)
        self._home = (self._boot, self._mount)
        return not is_usable

    def is_store_trusted(self) -> bool:
        """Say whether the store's pages are what was last written, as its marker tells."""
        return self._home == (self._boot, self._mount)

    def put_store_aside(self) -> None:
        """Have the next start rebuild the store."""
        self._home = None

    def flip_bit_of_log(self) -> int | None:
        """Have a bit of a frame flip; return its last offset, None where there is no frame."""
        if not self.frames:
            return None
        number = self._random.randrange(len(self.frames))
        frame = self.frames[number]
        self._pristine.setdefault(frame.last_offset, frame)
        flipped = with_flipped_bit(frame.encoded, self._random)
        self.frames[number] = msgspec.structs.replace(frame, encoded=flipped)
        return frame.last_offset

    def flip_bit_of_snapshot(self) -> bool:
        """Have a bit of a snapshot's image flip; return whether there is one."""
        if not self.snapshots:
            return False
        number = self._random.randrange(len(self.snapshots))
        manifest, image = self.snapshots[number]
        self.snapshots[number] = (manifest, with_flipped_bit(image, self._random))
        return True

    def frames_behind(self, position: Position, _: int) -> bytes:
        """Return the bytes of a few frames that follow `position`; none where they are damaged."""
        is_retained = position.offset >= self.first_offset - 1
        if not is_retained or self.position_at(position.offset) != position:
            return b""
        try:
            return self.read_after(position.offset)
        except WalCorrupt:
            return b""

    def read_after(self, offset: int) -> bytes:
        """Return the bytes of a few frames that follow `offset`, each checked.

        Raises:
            WalCorrupt: one is damaged.
        """
        frames = [f for f in self.frames if f.first_offset > offset][:_CHUNK_FRAMES]
        for frame in frames:
            self._check(frame)
        return b"".join(frame.encoded for frame in frames)

    def write(self, entries: Sequence[Entry], time_ms: int) -> Frame:
        """Log and apply a master's own entries."""
        reign = self.node.reign
        assert reign is not None
        self._make_room()
        time_ms = max(time_ms, self.applied_time_ms)
        frame = encode_frame(entries, previous=self.position, epoch=reign.epoch, time_ms=time_ms)
        self._append(frame)
        return frame

    def begin_reign(self, reign: Reign) -> None:
        """Begin a segment, as `Wal.begin_reign` does."""
        active = self._segments[-1] if self._segments else None
        if active is not None and (active.epoch, active.history) == (reign.epoch, reign.history):
            return
        end = self.position
        written = [s.history for s in self._segments if s.first_offset <= end.offset]
        check_next_reign(reign, end, written[-1] if written else None)
        following = end.offset + 1
        if active is not None and active.first_offset == following:
            self._segments.pop()
        self._segments.append(Reign(reign.epoch, reign.history, following))

    def open_as_master(self, *, may_have_lost: bool, has_peers: bool) -> bool:
        """Head the log by the reign to write in, as recovery does; return whether it is new."""
        self.drop_foreign_segments()
        node, offset = self.node, self.position.offset
        may_have_lost |= node.identity.is_recovering
        if may_have_lost and has_peers:
            node.note_recovering()
            return False
        reign = node.reign
        assert reign is not None
        active = self._segments[-1] if self._segments else None
        is_active = active is not None and (active.epoch, active.history) == (
            reign.epoch,
            reign.history,
        )
        is_next = reign.first_offset == offset + 1
        is_inside = active is None and reign.first_offset <= offset
        is_new = may_have_lost or not (is_active or is_next or is_inside)
        self.begin_reign(node.begin_reign(offset) if is_new else reign)
        return is_new

    def drop_foreign_segments(self) -> None:
        """Put aside what node.json does not know, as recovery does; here it is always empty."""
        known = {reign.history for reign in self.lineage}
        while self._segments and self._segments[-1].history not in known:
            assert self._segments[-1].first_offset > self.position.offset
            self._segments.pop()

    def crash_machine(self) -> int:
        """Lose a part of what was not synced; return how many frames went."""
        self._boot += 1
        return self.lose_pages()

    def lose_pages(self) -> int:
        """Lose the same where the disk goes away and comes back, and the machine goes on."""
        self._mount += 1
        sound = [self._pristine.get(f.last_offset, f) for f in self.frames]
        self.store.lose_pages(self._base_store, sound, self._random)
        unsynced = [f for f in self.frames if f.last_offset > self.durable_offset]
        lost = self._random.randrange(len(unsynced) + 1) if unsynced else 0
        self.lost = set()
        if lost:
            held = self.held.keys()
            del self.frames[-lost:]
            self.position = self.frames[-1].position if self.frames else self.base
            end = self.position.offset
            self._segments = [s for s in self._segments if s.first_offset <= end + 1]
            # Another reign may write other frames that end with the same offsets.
            self._pristine = {last: f for last, f in self._pristine.items() if last <= end}
            # Nor is damage found in what is gone; a process knows of it until it ends.
            self._sound_offset = min(self._sound_offset, end + 1) if self._pristine else 0
            self._judge_anew()
            self.lost = held - self.held.keys()
        # What is there after a crash is on the disk.
        self._synced_offset = self.position.offset
        return lost

    def sync(self) -> None:
        self._synced_offset = self.position.offset

    def take_snapshot(self, wall_ms: int) -> None:
        """Write a snapshot of the live store, durably.

        Raises:
            RecordCorrupt: a record is damaged; there is no snapshot.
        """
        if not self.lineage:
            return
        self.store.check()
        image = msgspec.msgpack.encode(sorted(self.store.records.items()))
        manifest = Manifest(
            lineage=self.lineage,
            position=self.position,
            time_ms=self.applied_time_ms,
            created_ms=wall_ms,
            keys=len(self.store.records),
            bytes=len(image),
            sha256=hashlib.sha256(image).hexdigest(),
            compression="none",
        )
        self.sync()
        self.snapshots = [(manifest, image), *self.snapshots[:2]]

    def retire(self) -> None:
        """Let the log go up to the newest snapshot, but for what somebody still reads."""
        if not self.snapshots:
            return
        manifest, image = self.snapshots[0]
        if not _is_sound(manifest, image):
            del self.snapshots[0]
            return
        position = manifest.position
        if position.offset <= self.base.offset or any(pin < position.offset for pin in self.pins):
            return
        self.frames = [f for f in self.frames if f.first_offset > position.offset]
        self._set_base(manifest, image)
        begun = [s for s in self._segments if s.first_offset <= position.offset + 1]
        self._segments = self._segments[len(begun) - 1 :] if begun else self._segments

    def install(self, job: Install, image: bytes) -> list[Frame]:
        """Switch to a received snapshot; return the frames that are gone and not put aside."""
        kept_after = job.switch.kept_after
        gone, aside = [], []
        for frame in self.frames:
            is_kept = kept_after is not None and frame.last_offset > kept_after
            (aside if is_kept else gone).append(frame)
        self.aside |= {(frame.last_offset, frame.rolling) for frame in aside}
        offer = job.offer
        manifest = Manifest(
            lineage=offer.lineage, position=offer.position, time_ms=offer.time_ms,
            created_ms=offer.created_ms, keys=offer.keys, bytes=offer.size,
            sha256=offer.sha256.hex(), compression="none",
        )  # fmt: skip
        self.frames = []
        self._segments = []
        self._set_base(manifest, image)
        self.position = manifest.position
        self.store = LiveStore(self._base_store.records, self.position)
        self._sound_offset = 0
        self._pristine.clear()
        self._judge_anew()
        self.ever_held |= self.held.keys()
        self._synced_offset = manifest.position.offset
        self.snapshots = [(manifest, image)]
        self.node.adopt(job.lineage)
        return gone

    def position_at(self, offset: int) -> Position | None:
        if offset < self.first_offset - 1:
            raise OffsetNotRetained(offset, self.first_offset)
        return self._passed(offset)

    def cursor(self, offset: int) -> Cursor:
        if self.position_at(offset) is None:
            raise OffsetUnknown(f"no frame ends with {offset}")
        return Cursor(self, offset)

    def holds(self, position: Position) -> bool:
        """Whether this log went through `position`, as far as it can tell."""
        if position.offset < self.base.offset:
            return True
        return self._passed(position.offset) == position

    def _passed(self, offset: int) -> Position | None:
        """Return the position where a frame ends with `offset`, sound or not."""
        if offset == self.base.offset:
            return self.base
        return next((f.position for f in self.frames if f.last_offset == offset), None)

    def _append(self, frame: Frame) -> None:
        if not follows(frame, self.position):
            raise OffsetGap(f"frame {frame.position} does not follow {self.position}")
        if not self._segments or self._segments[-1].epoch != frame.epoch:
            raise OffsetGap(f"reign {frame.epoch} was not begun")
        self.frames.append(frame)
        self.position = frame.position
        changes = changes_of(frame)
        self.store.take(changes, frame.position)
        self._judge(changes)

    def _check(self, frame: Frame) -> None:
        """Raise WalCorrupt where a frame is damaged; what the log has now is not given out then."""
        try:
            check_frame(frame.encoded)
        except FrameCorrupt as error:
            self._sound_offset = self.position.offset + 1
            raise WalCorrupt("log", frame.first_offset, str(error)) from error

    def _newest_image(self) -> LiveStore:
        """Return what the newest snapshot that verifies and is on the log holds, or the oldest."""
        for manifest, image in self.snapshots:
            at = manifest.position
            is_there = self.base.offset <= at.offset <= self.position.offset
            if is_there and self._passed(at.offset) == at and _is_sound(manifest, image):
                return LiveStore(_records_of(image), at)
        return LiveStore(self._base_store.records, self.base)

    def _judge(self, changes: Changes) -> None:
        change(self.held, changes)
        self.ever_held.update(key for key, _ in changes)

    def _judge_anew(self) -> None:
        self.held = dict(self._base_store.records)
        for frame in self.frames:
            self._judge(changes_of(self._pristine.get(frame.last_offset, frame)))

    def _set_base(self, manifest: Manifest, image: bytes) -> None:
        self.base = manifest.position
        self._base_store = LiveStore(_records_of(image), manifest.position)
        self._base_time_ms = manifest.time_ms

    def _make_room(self) -> None:
        if self.full_share and self._random.random() < self.full_share:
            raise DiskFull


class Cursor:
    """A place in the log, which keeps what follows it from being retired."""

    def __init__(self, disk: Disk, offset: int) -> None:
        self._disk = disk
        self.offset = offset
        disk.pins.append(offset)

    def next(self, _: int) -> bytes:
        """Return a few frames; b"" at the end."""
        disk = self._disk
        content = disk.read_after(self.offset)
        frames = [f for f in disk.frames if f.first_offset > self.offset][:_CHUNK_FRAMES]
        if frames:
            disk.pins.remove(self.offset)
            self.offset = frames[-1].last_offset
            disk.pins.append(self.offset)
        return content

    def close(self) -> None:
        if self.offset in self._disk.pins:
            self._disk.pins.remove(self.offset)


def _records_of(image: bytes) -> Records:
    return dict(msgspec.msgpack.decode(image, type=list[tuple[bytes, bytes]]))


def _is_sound(manifest: Manifest, image: bytes) -> bool:
    return hashlib.sha256(image).hexdigest() == manifest.sha256
