"""What this user's commands have seen of clusters: who else to ask when a master is lost.

Its replicas know their master and not each other, so that with the master the list of them goes.
The last whole list of a cluster is kept in a file of the user's, by the addresses of its nodes. A
node that is in it no more is remembered for a day: a master that was lost may run again, and then
nobody else tells of it. It is a hint: nodes that it names are asked, and never with credentials,
and one that answers by another name is left out. A file that is damaged is as none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from synap.disk import write_file

_NAME = "members.json"
_MOST_CLUSTERS = 50
_MOST_BYTES = 1024 * 1024
# What was not seen for so long says nothing any more.
_MOST_SECONDS = 30 * 86_400
_LEFT_SECONDS = 86_400


class _Left(msgspec.Struct, frozen=True):
    """A node that is in a cluster's list no more, and since when."""

    url: str
    seconds: float


class _Cluster(msgspec.Struct, frozen=True):
    """A cluster: the URL of each node by its name, when that was seen, and who has left since."""

    seen_seconds: float
    nodes: dict[str, str]
    left: dict[str, _Left] = {}


class _Kept(msgspec.Struct, frozen=True):
    clusters: list[_Cluster]


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the commands keep what they remember: in XDG_STATE_HOME, or ~/.local/state."""
    state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(state) / "synap"


class Members:
    """The clusters that were seen."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            folder: Where the file is; need not exist.
            now: Seconds since 1970.
        """
        self._path = folder / _NAME
        self._now = now

    def of(self, urls: Iterable[str]) -> dict[str, str]:
        """Return the URL of each node, by its name, of the clusters that have one of `urls`."""
        wanted = set(urls)
        found: dict[str, str] = {}
        for cluster in self._read():
            if wanted & set(cluster.nodes.values()):
                found |= cluster.nodes
        return found

    def left(self, urls: Iterable[str]) -> dict[str, str]:
        """Return those that were in the lists of these clusters within a day; as `of`."""
        wanted = set(urls)
        return {
            name: left.url
            for cluster in self._read() if wanted & set(cluster.nodes.values())
            for name, left in cluster.left.items() if self._now() - left.seconds < _LEFT_SECONDS
        }  # fmt: skip

    def keep(self, nodes: Mapping[str, str]) -> None:
        """Keep what a cluster is now, in place of what shares an address with it.

        Where the file can't be written, nothing is kept.
        """
        urls = set(nodes.values())
        before = self._read()
        same = [each for each in before if urls & set(each.nodes.values())]
        is_known = [each.nodes for each in same] == [dict(nodes)]
        if not nodes or (is_known and self._is_fresh(same[0])):
            return
        others = [each for each in before if each not in same]
        left = {name: gone for each in same for name, gone in self._gone(each).items()}
        left = {name: gone for name, gone in left.items() if name not in nodes}
        kept = [_Cluster(self._now(), dict(nodes), left), *others][:_MOST_CLUSTERS]
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self._path, msgspec.json.encode(_Kept(kept)), mode=0o600)

    def _gone(self, cluster: _Cluster) -> dict[str, _Left]:
        """Return whom a cluster had, as if all had left it now, and who had left it before."""
        now = self._now()
        before = {
            name: gone
            for name, gone in cluster.left.items() if now - gone.seconds < _LEFT_SECONDS
        }  # fmt: skip
        return before | {name: _Left(url, now) for name, url in cluster.nodes.items()}

    def _is_fresh(self, cluster: _Cluster) -> bool:
        # A look every second writes no file.
        return self._now() - cluster.seen_seconds < 3600

    def _read(self) -> list[_Cluster]:
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                return []
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, ValueError, RecursionError):
            return []
        oldest = self._now() - _MOST_SECONDS
        return [each for each in kept.clusters if each.seen_seconds > oldest]
