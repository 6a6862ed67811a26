"""What the kernel tells of a connection that ZeroMQ has: how much came in, how much the peer has.

ZeroMQ names a connection by its descriptor alone, which may be closed and given to something else
at any time. So each is known by its inode too, and what is asked of the wrong one is refused.

Source: Linux, `include/uapi/linux/tcp.h`, struct tcp_info.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

# Of tcp_info: tcpi_bytes_acked and tcpi_bytes_received.
_BYTES = struct.Struct("=QQ")
_BYTES_AT = 120
_TCP_INFO_BYTES = _BYTES_AT + _BYTES.size


class Traffic(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a connection since its beginning, with all that is around the messages.

    Attributes:
        acked: Those that the peer's kernel has.
        received: Those that came in.
    """

    acked: int
    received: int


def inode_of(file: int) -> int:
    """Return what tells an open file from the next one of its number; 0 where there is none."""
    if file < 0:
        return 0
    try:
        return os.fstat(file).st_ino
    except OSError:
        return 0


def local_port(file: int) -> int:
    """Return the port at this end of a TCP connection; 0 for anything else."""
    try:
        with _borrowed(file) as connection:
            return int(connection.getsockname()[1])
    except (OSError, IndexError, TypeError):
        return 0


def traffic(file: int, inode: int) -> Traffic | None:
    """Return what went over a connection; None where it is gone, or the kernel does not tell."""
    if inode_of(file) != inode:
        return None
    try:
        with _borrowed(file) as connection:
            told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    return Traffic(*_BYTES.unpack_from(told, _BYTES_AT)) if len(told) >= _TCP_INFO_BYTES else None


class Cutter:
    """Ends connections that ZeroMQ has; ZeroMQ then finds them closed by the peer.

    It has a descriptor of its own in reserve, so that it works where none is left.
    """

    def __init__(self) -> None:
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._spare = os.dup(self._null)

    def cut(self, file: int, inode: int) -> bool:
        """End a connection; return False where it is another one by now, or gone."""
        try:
            # From here on it can't be exchanged for another.
            os.dup2(file, self._spare, inheritable=False)
            if inode_of(self._spare) != inode:
                return False
            with _borrowed(self._spare) as connection:
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
        finally:
            self._let_go()
        return True

    def close(self) -> None:
        """Give the descriptor in reserve back."""
        os.close(self._spare)
        os.close(self._null)

    def _let_go(self) -> None:
        # Held any longer, the connection would stay open after ZeroMQ's back.
        os.dup2(self._null, self._spare, inheritable=False)


@contextmanager
def _borrowed(file: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that stays its owner's."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, file)
    try:
        yield connection
    finally:
        connection.detach()
