"""The segment that is appended to, and how the next one takes its place.

A segment appears under its name whole: written beside, synced, renamed, the folder synced. Errors
of the disk become what they mean for the log here: no room is `DiskFull` and leaves everything as
it was, anything else is `WalFailed` and the end of this log's use.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from os import O_APPEND, O_CREAT, O_TRUNC, O_WRONLY
from pathlib import Path

from synap.disk import NO_FILES, NO_ROOM, Files, no_room, write_whole
from synap.errors import DataDirUnusable, DiskFull, WalFailed
from synap.wal.segment import SegmentHeader, open_segment, segment_path
from synap.wal.syncer import Syncer

logger = logging.getLogger(__name__)


class NoFileLeft(Exception):
    """No file may be opened for now; nothing changed, and the old segment is the active one."""


def check_link(files: Files, link: Path) -> None:
    """Raise DataDirUnusable where something that is no link has the link's name."""
    try:
        files.link_target(link)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise DataDirUnusable(f"{link} is no symbolic link; move it out of the way") from error


class ActiveSegment:
    """The file at the log's end, none at first."""

    def __init__(self, files: Files, syncer: Syncer, link: Path) -> None:
        self._files = files
        self._syncer = syncer
        self._link = link
        self._file = -1
        self._path = link

    @property
    def _stem(self) -> str:
        return self._link.stem

    def open(self, path: Path, last_offset: int) -> None:
        """Take the existing segment at `path` into use and make all that is in it durable.

        Raises:
            OSError: it can't be opened.
            WalFailed: it can't be synced.
        """
        self._file = open_segment(self._files, path, O_WRONLY | O_APPEND)
        self._path = path
        try:
            # A process that was killed may have left names and frames that nobody synced.
            self._syncer.sync_directory(path.parent)
            self._point_link(path.name)
            self._syncer.start(self._file, last_offset)
        except BaseException:
            self.close()
            raise

    def write(self, buffers: Sequence[bytes], size: int) -> None:
        """Append all of `buffers` after byte `size`, or nothing.

        Raises:
            DiskFull: no room; what was written of them is cut off.
            WalFailed: the disk failed.
        """
        try:
            write_whole(self._files, self._file, buffers)
        except OSError as error:
            if error.errno in NO_ROOM:
                self.cut_back(size)
            raise self._refusal(error) from error

    def cut_back(self, size: int) -> None:
        """Cut the file to `size` bytes.

        Raises:
            WalFailed: it can't be cut.
        """
        try:
            self._files.truncate(self._file, size)
        except OSError as error:
            raise self._syncer.fail(error, f"{self._link} can't be cut") from error

    def replace(self, header: SegmentHeader) -> Path:
        """Sync and close the file and go on with a new segment headed by `header`.

        Raises:
            DiskFull: no room; the old segment is still the active one.
            NoFileLeft: the same, for want of a descriptor.
            WalFailed: the disk failed.
        """
        # A finished segment is durable in every mode, so that a crash can tear the last one only.
        self._syncer.sync()
        path = segment_path(self._link.parent, self._stem, header.first_offset)
        try:
            file = self._create(path, header)
        except OSError as error:
            raise self._refusal(error) from error
        self._syncer.switch(file)
        self.close()
        self._file, self._path = file, path
        return path

    def misplaced(self) -> str:
        """Return what is wrong where the file no longer has its name; empty where it has."""
        if self._file < 0:
            return ""
        open_file = os.fstat(self._file)
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return f"{self._path} is gone"
        is_same = (open_file.st_dev, open_file.st_ino) == (named.st_dev, named.st_ino)
        return "" if is_same else f"{self._path} is another file than the one that was opened"

    def close(self) -> None:
        """Close the file; twice does no harm."""
        if self._file >= 0:
            self._files.close(self._file)
            self._file = -1

    def _create(self, path: Path, header: SegmentHeader) -> int:
        """Create a segment, durably; return it open for appending."""
        temporary = path.with_name(f"{self._stem}.segment.tmp")
        try:
            flags = O_WRONLY | O_APPEND | O_CREAT | O_TRUNC
            file = open_segment(self._files, temporary, flags)
        except OSError as error:
            if error.errno in NO_FILES:
                raise NoFileLeft(str(error)) from error
            raise
        try:
            write_whole(self._files, file, [header.encode()])
            self._syncer.sync_file(file)
            self._files.rename(temporary, path)
            self._point_link(path.name)
            self._syncer.sync_directory(path.parent)
        except BaseException:
            self._files.close(file)
            raise
        return file

    def _refusal(self, error: OSError) -> DiskFull | WalFailed:
        if error.errno in NO_ROOM:
            return no_room(self._link.parent)
        return self._syncer.fail(error, f"{self._link} can't be written")

    def _point_link(self, target: str) -> None:
        """Point the link at `target`; where that has no room, it waits for the next occasion.

        Only people follow the link, so a log without it is as good.
        """
        try:
            if self._files.link_target(self._link) != target:
                self._files.point_link(self._link, target)
        except OSError as error:
            if error.errno not in NO_ROOM and error.errno != errno.EINVAL:
                raise
            fields = {"action": "wal_link", "path": str(self._link)}
            logger.warning("%s does not point to %s: %s", self._link, target, error, extra=fields)
