"""Who a node is: `node.json` and the locks on its data directory.

The file is written when identity, role or lineage changes and at no other time, so that its time
stamp tells when that was. The role in it wins over the configuration, so that a promotion outlives
a restart. One exception: a standalone node becomes a master where the configuration says so, for it
holds all that a master needs.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from synap.disk import DISK, NO_ROOM, Files, write_file
from synap.errors import DataDirInUse, DataDirUnusable, DiskFull, SealRefused
from synap.node.paths import NodePaths
from synap.position import HISTORY_BYTES, UNASKED, Lineage, Reign
from synap.sealed import sealed, unsealed

if TYPE_CHECKING:
    from synap.config.keys import Config

Role = Literal["standalone", "master", "replica"]

# In the first, node.json held histories in base64.
FORMAT = 2

_WAY_OUT = (
    "Nothing was changed. Put the file back from a copy of this directory; or, on a replica, begin "
    "anew in an empty data_dir; or, where a replica holds the data, promote that; or "
    "`synap restore --from` the newest backup, or snapshot of this directory, with `--wal` for its "
    "log, into an empty one"
)


class NodeIdentity(msgspec.Struct, frozen=True):
    """What `node.json` holds.

    Attributes:
        id: Random name of this data directory, 16 hex digits; never changes.
        role: What the node is.
        lineage: The reigns that its log went through; empty on a replica that never synced.
        format: Version of the data directory's layout.
        has_synced: Whether its data was ever a whole state; False on a replica until its first
            synchronisation has ended, so that a restart in the middle does not hide that.
        master_address: PUB socket of the master that it was told to follow; empty where that is
            the configuration's. A promoted master keeps the address of the one before it.
        master_sync_address: That master's ROUTER socket; as above.
        ended_by_epoch: The higher epoch that this master has met, which ends its reign; 0 for none.
        is_recovering: The end of this master's log may be lost, and replicas are asked for it: it
            takes no writes until its next reign begins.
        sealed_epoch: Nothing of a reign below this one is acknowledged any more; 0 for none.
        sealed_for: `server.node_id` of the candidate that this epoch was promised to.
    """

    id: str
    role: Role
    lineage: Lineage = ()
    format: int = FORMAT
    has_synced: bool = True
    master_address: str = ""
    master_sync_address: str = ""
    ended_by_epoch: int = 0
    is_recovering: bool = False
    sealed_epoch: int = 0
    sealed_for: str = ""


class Node:
    """A node's identity, kept on disk.

    One process changes it: the log's owner. The supervisor reads the role.
    """

    def __init__(
        self,
        path: Path,
        identity: NodeIdentity,
        files: Files = DISK,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """
        Args:
            path: `node.json`.
            identity: What it holds.
            files: The disk.
            draw: Returns so many random bytes, for the ids of reigns.
        """
        self._path = path
        self._files = files
        self._draw = draw
        self.identity = identity

    @classmethod
    def load_or_create(cls, config: Config, paths: NodePaths, files: Files = DISK) -> Node:
        """Read `node.json`, or begin a new node in the role that the configuration names.

        Raises:
            DataDirUnusable: the file is damaged or of a later layout.
        """
        try:
            identity = read_identity(paths.node_file)
        except FileNotFoundError:
            return cls._create(config.replication.role, paths, files)
        if identity.format > FORMAT:
            raise DataDirUnusable(
                f"{paths.data_dir} was written by a later version of Synap (layout "
                f"{identity.format}, this program knows {FORMAT}); upgrade the program"
            )
        node = cls(paths.node_file, identity, files)
        if (identity.role, config.replication.role) == ("standalone", "master"):
            node._become_master()
        return node

    @classmethod
    def _create(cls, role: Role, paths: NodePaths, files: Files) -> Node:
        held = {
            "a log": paths.wal_dir.glob("*.wal"),
            "snapshots": paths.snapshots_dir.glob("snapshot_*.bin"),
            "a live store": paths.store_dir.glob("*/data.mdb"),
        }
        for what, found in held.items():
            if path := next(found, None):
                raise DataDirUnusable(
                    f"{paths.node_file} is missing but {path.parent} holds {what}; "
                    "restore node.json or choose an empty data_dir"
                )
        is_replica = role == "replica"
        identity = NodeIdentity(
            id=secrets.token_hex(8),
            role=role,
            lineage=() if is_replica else (new_reign(epoch=1, first_offset=1),),
            has_synced=not is_replica,
        )
        node = cls(paths.node_file, identity, files)
        node._keep(identity)
        return node

    @property
    def id(self) -> str:
        return self.identity.id

    @property
    def role(self) -> Role:
        return self.identity.role

    @property
    def lineage(self) -> Lineage:
        return self.identity.lineage

    @property
    def reign(self) -> Reign | None:
        """The newest reign, or None on a replica that never synced."""
        return self.lineage[-1] if self.lineage else None

    def adopt(self, lineage: Lineage) -> None:
        """Take `lineage` for this node's own and make that durable."""
        if lineage != self.lineage:
            self._keep(msgspec.structs.replace(self.identity, lineage=lineage))

    def note_synced(self) -> None:
        """Say, durably, that the data was a whole state once."""
        if not self.identity.has_synced:
            self._keep(msgspec.structs.replace(self.identity, has_synced=True))

    def forget_synced(self) -> None:
        """Say, durably, that the data is no whole state of anything, for it is gone."""
        if self.identity.has_synced:
            self._keep(msgspec.structs.replace(self.identity, has_synced=False))

    def begin_reign(self, after_offset: int) -> Reign:
        """Begin a new epoch after `after_offset`, where this node's log ends, durably.

        Reigns of the lineage that wrote nothing up to there are dropped; their numbers stay used.
        One that somebody asked for stays where it may stand there: the new one reigns by its
        number, not by a higher one that nobody gave it. Where the log has lost more than that
        reign's entries, which a promotion syncs before, the new one stands for it.
        """
        following = after_offset + 1
        kept = tuple(
            reign
            for reign in self.lineage
            if reign.first_offset <= after_offset
            or (reign.first_offset == following and not reign.is_unasked)
        )
        epoch = max((reign.epoch for reign in self.lineage), default=0) + 1
        is_unasked = all(reign.is_unasked for reign in self.lineage if reign not in kept)
        reign = new_reign(epoch, following, self._draw, is_unasked=is_unasked)
        self._keep(
            msgspec.structs.replace(self.identity, lineage=(*kept, reign), is_recovering=False)
        )
        return reign

    def note_recovering(self) -> None:
        """Say, durably, that the end of the log may be lost; the next reign ends that."""
        if not self.identity.is_recovering:
            self._keep(msgspec.structs.replace(self.identity, is_recovering=True))

    @property
    def next_epoch(self) -> int:
        """The lowest number that a promotion of this node may have, as far as it knows."""
        known = self.identity
        reigns = (reign.epoch for reign in self.lineage)
        return max([known.ended_by_epoch, known.sealed_epoch, *reigns]) + 1

    def seal(self, epoch: int, candidate: str) -> None:
        """Promise, durably, to acknowledge nothing of a reign below `epoch` any more.

        The same again is no other promise. What was promised once holds for ever: the reign of the
        candidate, or a later one, is the next that this node follows.

        Args:
            epoch: Number of the reign that is to begin.
            candidate: `server.node_id` of the node that it is promised to.

        Raises:
            SealRefused: this node knows a reign of that number or a later one, or promised it to
                somebody else.
            DiskFull, OSError: the disk refuses; nothing was promised.
        """
        known = self.identity
        if (known.sealed_epoch, known.sealed_for) == (epoch, candidate):
            return
        if epoch < self.next_epoch:
            whom = f", promised to {known.sealed_for}" if known.sealed_for else ""
            raise SealRefused(
                f"this node knows epoch {self.next_epoch - 1}{whom}; the next candidate's is "
                f"{self.next_epoch} or above, not {epoch}"
            )
        self._keep(msgspec.structs.replace(known, sealed_epoch=epoch, sealed_for=candidate))

    def check_promised(self, epoch: int, candidate: str) -> None:
        """Refuse a promotion by a number that this node has promised to nobody, or to another one.

        Raises:
            SealRefused: it is not what was promised last, or a reign of that number began since.
        """
        known = self.identity
        # A master that sealed itself has ended its reign by that very epoch.
        is_over = known.ended_by_epoch > epoch or any(
            reign.epoch >= epoch for reign in self.lineage
        )
        if (known.sealed_epoch, known.sealed_for) != (epoch, candidate) or is_over:
            raise SealRefused(
                f"epoch {epoch} is not what this node is sealed for: that is "
                f"{known.sealed_epoch}, for {known.sealed_for or 'nobody'}"
            )

    def promote(
        self, after_offset: int, addresses: tuple[str, str] | None, epoch: int = 0
    ) -> Reign:
        """Become a master in a new reign after `after_offset`, where the log ends, durably.

        Args:
            after_offset: Last offset of the log.
            addresses: PUB and ROUTER socket of the master until now; None where there was none.
            epoch: The reign's number, which was sealed before; 0 for the next one.
        """
        before = self.identity
        epoch = epoch or self.next_epoch
        reign = new_reign(epoch, after_offset + 1, self._draw)
        kept = tuple(each for each in self.lineage if each.first_offset <= after_offset)
        pub, sync = addresses or (before.master_address, before.master_sync_address)
        self._keep(msgspec.structs.replace(
            before, role="master", lineage=(*kept, reign), has_synced=True,
            master_address=pub, master_sync_address=sync, ended_by_epoch=0, is_recovering=False,
        ))  # fmt: skip
        return reign

    def follow(self, master_address: str, master_sync_address: str) -> None:
        """Become a replica of the master at these addresses, durably; the data stays."""
        self._keep(msgspec.structs.replace(
            self.identity, role="replica", master_address=master_address,
            master_sync_address=master_sync_address, ended_by_epoch=0, is_recovering=False,
        ))  # fmt: skip

    def end_reign(self, epoch: int) -> None:
        """Say, durably, that `epoch` has ended the reign of this master."""
        if epoch > self.identity.ended_by_epoch:
            self._keep(msgspec.structs.replace(self.identity, ended_by_epoch=epoch))

    def master_addresses(self, config: Config) -> tuple[str, str] | None:
        """Return PUB and ROUTER socket of the master; what it was told wins over `config`."""
        if self.identity.master_address:
            return self.identity.master_address, self.identity.master_sync_address
        replication = config.replication
        if replication.master_address is None or replication.master_sync_address is None:
            return None
        return replication.master_address, replication.master_sync_address

    def _become_master(self) -> None:
        self._keep(msgspec.structs.replace(self.identity, role="master"))

    def _keep(self, identity: NodeIdentity) -> None:
        """Make `identity` durable, then this node's.

        Raises:
            DiskFull, OSError: the disk refuses; the node is what it was.
        """
        try:
            write_identity(self._path, identity, self._files)
        except OSError as error:
            self._put_back()
            if error.errno in NO_ROOM:
                raise DiskFull(f"no room on the disk for {self._path}") from error
            raise
        self.identity = identity

    def _put_back(self) -> None:
        """Have the file say what this node is, where a change got its name and may not be durable.

        Else the next start would be the first to act on a change that was refused.
        """
        with suppress(OSError):
            held = read_identity(self._path)
            if msgspec.structs.replace(held, format=self.identity.format) != self.identity:
                write_identity(self._path, self.identity, self._files)


def read_identity(path: Path) -> NodeIdentity:
    """Read the `node.json` at `path`; the layout's version is not looked at.

    Raises:
        FileNotFoundError: there is none.
        DataDirUnusable: it is damaged.
    """
    try:
        return unsealed(path.read_bytes(), NodeIdentity)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise DataDirUnusable(f"{path} is damaged ({error}). {_WAY_OUT}") from error


def write_identity(path: Path, identity: NodeIdentity, files: Files = DISK) -> None:
    """Write `identity` as the `node.json` at `path`, durably."""
    identity = msgspec.structs.replace(identity, format=FORMAT)
    write_file(path, sealed(identity), files=files)


def new_reign(
    epoch: int,
    first_offset: int,
    draw: Callable[[int], bytes] = secrets.token_bytes,
    *,
    is_unasked: bool = False,
) -> Reign:
    """Begin a reign with a random history id; one that nobody asked for shows it there."""
    history = draw(HISTORY_BYTES)
    if is_unasked:
        history = UNASKED + history[len(UNASKED) :]
    return Reign(epoch, history, first_offset)


def lock_file(path: Path, *, wait_seconds: float = 0.0) -> int:
    """Lock `path` for as long as the returned descriptor, or a child that has it, lives.

    Args:
        path: Created where it is missing; never removed.
        wait_seconds: How long to wait for a holder that is just ending.

    Raises:
        DataDirInUse: somebody holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise DataDirInUse(
                    f"{path.parent} is in use by another process; stop it first or choose "
                    "another data_dir"
                ) from None
            time.sleep(0.02)
