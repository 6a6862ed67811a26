"""Bounds what peers make a node hold, whoever of the two listens, also while its loop is busy.

ZeroMQ's own limits count messages, so that one message without end, a subscription for each byte or
a peer that reads nothing take as much memory as they like. The doorkeeper looks at each connection
to the node's ports, and at its own to a master, in a thread of its own, and cuts off those that

    sent more than `unread_bytes` that the node has not read yet
    are `backlog_bytes` behind what was sent to all
    are surplus: more than MAX_CONNECTIONS, beside MAX_SILENT that have not said a word

A peer that is cut off may come back. Honest ones stay far below all of it. Where the kernel tells
nothing of a connection, only the numbers are bounded.

Source: docs/protocol.md, "Bounds".
"""

from __future__ import annotations

import resource
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

import zmq

from synap.replication.transport.tcp_facts import Cutter, inode_of, local_port, traffic

# Of each port, above the nodes of any cluster; fewer where the process may open few files.
MAX_CONNECTIONS = 192
MAX_SILENT = 64
# What the process opens beside them: the store, the log, sockets of the node's other processes.
_OWN_FILES = 96
_LEAST_PLACES = 8
# Connections are looked at so often; what all of them send meanwhile is not bounded.
_TICK_MS = 50
# Number and value of a monitor's event: of a connection that was accepted, its descriptor.
_EVENT = struct.Struct("=HI")

Tell = Callable[[str], None]
Hear = Callable[[list[bytes]], None]


def places(files: int) -> tuple[int, int]:
    """Return how many connections a port has room for: those that talk, and silent ones.

    Args:
        files: What the process may have open; two ports share what it does not need itself.
    """
    fitting = max(_LEAST_PLACES, (files - _OWN_FILES) // 2)
    silent = min(MAX_SILENT, fitting // 4)
    return min(MAX_CONNECTIONS, fitting - silent), silent


class Door:
    """One port, and what the loop tells of it.

    Attributes:
        port: The node's own; 0 where the node calls.
        sent_bytes: What was sent to everybody so far; the loop alone writes it.
        read_bytes: What was read so far, where that is counted; the loop alone writes it.
    """

    def __init__(
        self, port: int, *, unread_bytes: int, backlog_bytes: int | None, forgives: bool
    ) -> None:
        """
        Args:
            port: The node's own; 0 for what it connects itself.
            unread_bytes: What a peer may send ahead of the node's reading.
            backlog_bytes: How far a peer may be behind what is sent to all; None for no bound.
            forgives: What was read counts no more; else all counts that a peer ever sends.
        """
        self.port = port
        self.sent_bytes = self.read_bytes = 0
        self._unread_bytes = unread_bytes
        self._backlog_bytes = backlog_bytes
        self._forgives = forgives
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = soft == resource.RLIM_INFINITY
        self._most_talking, self._most_silent = places(sys.maxsize if unlimited else soft)
        self._heard: deque[int] = deque()
        self._connections: dict[int, _Connection] = {}

    def heard(self, file: int) -> None:
        """All that there was of a connection is read. For the loop."""
        self._heard.append(file)

    def accepted(self, file: int) -> None:
        """Begin to look at a connection. For the doorkeeper, as all below."""
        inode = inode_of(file)
        if inode and self.port in (0, local_port(file)):
            known = _Connection(file, inode, self.sent_bytes, self.read_bytes)
            self._connections[file] = known

    def surplus(self) -> list[tuple[_Connection, str]]:
        """Look at every connection; return those that are to go, each with the reason."""
        heard = set()
        while self._heard:
            heard.add(self._heard.popleft())
        going = []
        for file, connection in tuple(self._connections.items()):
            if not self._look(connection, file in heard):
                del self._connections[file]
            elif connection.unread > self._unread_bytes:
                going.append((connection, f"it sent {connection.unread} bytes that nobody read"))
            elif self._backlog_bytes is not None and connection.behind > self._backlog_bytes:
                going.append((connection, f"it is {connection.behind} bytes behind the stream"))
        # In the order of their coming: of the silent ones the last may be about to speak.
        silent = [each for each in self._connections.values() if each.is_silent]
        talking = [each for each in self._connections.values() if not each.is_silent]
        going += [
            (each, "it says nothing, as many others") for each in silent[: -self._most_silent]
        ]
        going += [(each, "the port is full") for each in talking[self._most_talking :]]
        return going

    def forget(self, connection: _Connection) -> None:
        """The connection was cut off."""
        self._connections.pop(connection.file, None)

    def _look(self, connection: _Connection, is_heard: bool) -> bool:
        """Learn how a connection stands; return False where it is gone."""
        told = traffic(connection.file, connection.inode)
        if told is None:
            return inode_of(connection.file) == connection.inode
        if is_heard:
            connection.is_silent = False
            if self._forgives:
                connection.forgiven, connection.level_read = told.received, self.read_bytes
        read = connection.forgiven + self.read_bytes - connection.level_read
        connection.unread = told.received - read
        connection.behind = self.sent_bytes - connection.level_sent
        connection.behind -= told.acked - connection.level_acked
        if connection.behind <= 0:
            # It has all: what the counts differ by ends here.
            connection.behind = 0
            connection.level_sent, connection.level_acked = self.sent_bytes, told.acked
        return True


class _Connection:
    """One that is looked at. `inode` tells it from the next one of its descriptor."""

    def __init__(self, file: int, inode: int, sent_bytes: int, read_bytes: int) -> None:
        self.file = file
        self.inode = inode
        self.is_silent = True
        self.unread = self.behind = self.forgiven = 0
        # What was sent to all, and what the peer had, when it last had everything.
        self.level_sent, self.level_acked = sent_bytes, 0
        # What was read of all when all of this one was.
        self.level_read = read_bytes


class Doorkeeper:
    """The thread."""

    def __init__(self, tell: Tell) -> None:
        """
        Args:
            tell: Told, in this thread, of each connection that was cut off, and why.
        """
        self._tell = tell
        self._doors: dict[zmq.Socket[bytes], Door] = {}
        self._hears: dict[zmq.Socket[bytes], Hear] = {}
        self._cutter = Cutter()
        self._should_stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorkeeper", daemon=True)

    def add(self, monitor: zmq.Socket[bytes], door: Door, hear: Hear) -> None:
        """Watch a port, or what is connected; before `start`.

        Args:
            monitor: Tells of the connections that there are; the thread's from now on.
            door: The port.
            hear: Given, in this thread, what the monitor tells beside.
        """
        self._doors[monitor] = door
        self._hears[monitor] = hear

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread is gone."""
        self._should_stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for monitor in self._doors:
            monitor.close(linger=0)
        self._cutter.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for monitor in self._doors:
            poller.register(monitor, zmq.POLLIN)
        looked = time.monotonic()
        while not self._should_stop.is_set():
            for monitor, _ in poller.poll(_TICK_MS):
                self._read(monitor)
            if time.monotonic() - looked >= _TICK_MS / 1000:
                for door in self._doors.values():
                    self._clear(door)
                looked = time.monotonic()

    def _read(self, monitor: zmq.Socket[bytes]) -> None:
        while int(monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            parts = monitor.recv_multipart()
            kind, value = _EVENT.unpack(parts[0])
            if kind in (zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED):
                self._doors[monitor].accepted(value)
            else:
                self._hears[monitor](parts)

    def _clear(self, door: Door) -> None:
        for connection, why in door.surplus():
            if self._cutter.cut(connection.file, connection.inode):
                self._tell(why)
            door.forget(connection)
