"""Where a node keeps its files.

The data directory holds what must survive; the run directory holds sockets and shared memory, and
is short because UNIX socket paths end at 107 bytes. Every process of a node computes the same paths
from the same configuration.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synap.errors import DataDirUnusable

if TYPE_CHECKING:
    from synap.config.keys import Config

HTTP_SOCKET = "http.sock"
# The longest socket name below the run directory, with some room; the limit is 107 bytes.
_LONGEST_RUN_DIR = 80


@dataclass(frozen=True, slots=True)
class NodePaths:
    """Every path of one node.

    Attributes:
        data_dir: Root of what must survive.
        node_file: Identity, role and lineage.
        lock_file: Locked by the supervisor as long as the node runs.
        wal_link: Link to the active segment; segments lie beside it.
        store_dir: Generations of the live store.
        snapshots_dir: Snapshots and their manifests.
        foreign_dir: What belongs to another history and was put aside.
        diverged_dir: What this replica's master does not hold and was put aside.
        replicas_file: Whom this master asks at its next start; see `known_replicas`.
        peers_file: Whom this replica asks when it is promoted; see `rival_watch`.
        resync_file: A full resync that is being switched in.
        fresh_file: How old a replica's data is.
        run_dir: Sockets and shared memory; gone with the machine.
        writer_socket: Where the log's owner takes writes.
        admin_socket: Where it takes requests for its own work, such as a snapshot.
        accounts_file: The version of the accounts, in shared memory.
        board_file: Status of the log's owner, in shared memory.
        http_socket: Where HTTP is served to this user without TLS, if clients need certificates.
        failover_file: What the fail-over agent tells, in JSON.
    """

    data_dir: Path
    node_file: Path
    lock_file: Path
    wal_link: Path
    store_dir: Path
    snapshots_dir: Path
    foreign_dir: Path
    diverged_dir: Path
    replicas_file: Path
    peers_file: Path
    resync_file: Path
    fresh_file: Path
    run_dir: Path
    writer_socket: Path
    admin_socket: Path
    accounts_file: Path
    board_file: Path
    http_socket: Path
    failover_file: Path

    @property
    def wal_dir(self) -> Path:
        return self.wal_link.parent

    @classmethod
    def of(cls, config: Config) -> NodePaths:
        """Return the paths of the node that `config` describes; creates nothing."""
        data_dir = Path(config.data_dir).absolute()
        run_dir = _run_dir_of(data_dir)
        wal_path = config.persistence.wal.path
        return cls(
            data_dir=data_dir,
            node_file=data_dir / "node.json",
            lock_file=data_dir / "node.lock",
            wal_link=Path(wal_path).absolute() if wal_path else data_dir / "wal" / "synap.wal",
            store_dir=data_dir / "store",
            snapshots_dir=config.snapshots_dir.absolute(),
            foreign_dir=data_dir / "foreign",
            diverged_dir=data_dir / "diverged",
            replicas_file=data_dir / "replicas.json",
            peers_file=data_dir / "peers.json",
            resync_file=data_dir / "resync.json",
            fresh_file=data_dir / "fresh_ms",
            run_dir=run_dir,
            writer_socket=run_dir / "writer.sock",
            admin_socket=run_dir / "admin.sock",
            accounts_file=run_dir / "accounts",
            board_file=run_dir / "board",
            http_socket=run_dir / HTTP_SOCKET,
            failover_file=run_dir / "failover",
        )

    def create(self) -> None:
        """Create the folders that are missing, and close what lies in `data_dir` to other users.

        A lock that others may read is one that they may hold, and a log holds everything.
        `data_dir` itself is as the operator made it.

        Raises:
            DataDirUnusable: one can't be created, or the run directory is somebody else's.
        """
        try:
            for folder in (self.data_dir, self.wal_dir, self.store_dir, self.snapshots_dir):
                folder.mkdir(parents=True, exist_ok=True)
            _close_to_others(self.data_dir)
            self.run_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Anybody may have made it in /tmp, and nothing can be made in it then.
            check_private(self.run_dir.parent, _OTHER_RUN_DIR)
            self.run_dir.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataDirUnusable(
                f"can't create {error.filename}: {error.strerror}; "
                "choose another data_dir or mend its permissions"
            ) from error
        check_private(self.run_dir, _OTHER_RUN_DIR)

    def check_access(self) -> None:
        """Refuse files that this user can't use, as a copy by another user leaves them.

        Raises:
            DataDirUnusable: there are such; the message has the command that mends it.
        """
        for folder in (self.data_dir, self.wal_dir, self.store_dir, self.snapshots_dir):
            for path in _used_within(folder, self._put_aside):
                # Snapshots are read, and removed by their folder.
                needs_writing = self.snapshots_dir not in path.parents
                if not _may_use(path, needs_writing=needs_writing):
                    raise DataDirUnusable(_closed(path, folder))

    @property
    def _put_aside(self) -> tuple[Path, Path]:
        return self.foreign_dir, self.diverged_dir


_OTHER_RUN_DIR = "set SYNAP_RUN_DIR to a folder of your own, for the node and its commands"


def _run_dir_of(data_dir: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(data_dir))).hexdigest()[:12]
    base = runs_dir()
    if len(os.fsencode(base)) > _LONGEST_RUN_DIR - len(name):
        base = own_runs_dir()
    return base / name


def _used_within(folder: Path, put_aside: Sequence[Path]) -> Iterator[Path]:
    """Yield a folder and what lies in it, but for what was put aside."""
    yield folder
    for above, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(above, name) not in put_aside]
        yield from (Path(above, name) for name in (*folders, *files))


def _may_use(path: Path, *, needs_writing: bool) -> bool:
    wanted = os.R_OK | (os.X_OK if path.is_dir() else 0) | (os.W_OK if needs_writing else 0)
    # What is gone by now needs nothing.
    return os.access(path, wanted, effective_ids=True) or not path.exists()


def _closed(path: Path, folder: Path) -> str:
    """Return what is wrong with a file that can't be used, and the command that mends it."""
    user, owner = os.geteuid(), os.stat(path).st_uid
    if owner == user:
        return f"{path} is closed to its own user: chmod -R u+rwX {folder}"
    return (
        f"{path} belongs to user {owner}, and this node runs as user {user}, who can't use it: "
        f"chown -R {user}:{os.getegid()} {folder}"
    )


def _close_to_others(data_dir: Path) -> None:
    """Take what other users may do with the entries of `data_dir`, where they are this user's."""
    with os.scandir(data_dir) as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            mode = stat.S_IMODE(facts.st_mode)
            if mode & 0o077 and facts.st_uid == os.getuid() and not entry.is_symlink():
                os.chmod(entry.path, mode & 0o700)


def check_private(folder: Path, other: str = "choose another") -> None:
    """Refuse a folder in which another user may put or replace something.

    Args:
        folder: It.
        other: What to do where it can't be removed.

    Raises:
        DataDirUnusable: it is somebody else's, or others may write to it.
    """
    facts = os.lstat(folder)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise DataDirUnusable(
            f"{folder} must be a folder of this user that nobody else can write to; "
            f"remove it or {other}"
        )


def own_runs_dir() -> Path:
    """Return the folder of this user's run directories where the environment names no other."""
    return Path("/tmp", f"synap-{os.getuid()}")


def runs_dir() -> Path:
    """Return the folder that holds a run directory for each node of this user."""
    chosen = os.environ.get("SYNAP_RUN_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    return Path(chosen, "synap") if chosen else own_runs_dir()
