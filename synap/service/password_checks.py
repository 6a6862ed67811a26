"""Checking passwords without harm: beside the event loop, one at a time, and seldom.

A slow hash takes about 0.15 s of a core. What was checked is remembered by an HMAC of the
stored hash and the password under a secret of this process, so that a client which sends its
password with every request is hashed once; a new password has a new hash, and with it the old
one's entry is of no use any more. Requests with the same credentials wait for one hash. At most one
hash runs on the whole node, at a low priority, and few requests wait for one, of one address fewer:
a flood of wrong passwords costs at most one core's idle time. Whose turn it is says `login_queue`,
so that it does not shut others out.
"""

from __future__ import annotations

import asyncio
import fcntl
import hmac
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from synap.auth.passwords import hash_password, verify_password
from synap.request_errors import TooManyLogins
from synap.service.login_queue import LoginQueue, Place

Result = TypeVar("Result")

_MAX_REMEMBERED = 1024
# Below everything that serves.
_NICENESS = 5


class PasswordChecks:
    """What one HTTP worker knows of passwords."""

    def __init__(self, lock_file: Path) -> None:
        """
        Args:
            lock_file: The node's; made where it is missing.
        """
        self._lock_file = lock_file
        self._secret = secrets.token_bytes(32)
        # Apart, so that wrong passwords can't push right ones out.
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._queue = LoginQueue()
        self._turns: dict[Place, asyncio.Future[None]] = {}
        self._is_busy = False

    def start(self) -> None:
        """Make the thread; the node's lock is opened with it."""
        self._file = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._thread = ThreadPoolExecutor(1, "passwords", initializer=_be_nice)

    def close(self) -> None:
        """End the thread; a hash under way is waited for."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        os.close(self._file)

    async def hash(self, password: str, address: str) -> str:
        """Return the hash to store of a new password.

        Raises:
            TooManyLogins: too many wait already.
        """
        return await self._run(address, "", lambda: hash_password(password))

    def remembers(self, username: str, password: str, *, stored: str | None) -> bool:
        """Say whether the password was found right before."""
        return self._digest(username, password, stored) in self._right

    async def verify(
        self,
        username: str,
        password: str,
        address: str,
        *,
        stored: str | None = None,
        plain: str | None = None,
    ) -> bool:
        """Say whether the password is right; takes as long where there is no such user.

        Args:
            username: Whose it is said to be.
            password: What the client sent.
            address: The client's.
            stored: The hash of the right one; None where none is stored.
            plain: The right one itself, of the root user; None of others.

        Raises:
            TooManyLogins: too many wait already.
        """
        digest = self._digest(username, password, stored)
        if digest in self._right:
            self._right.move_to_end(digest)
            return True
        if digest in self._wrong:
            return False
        running = self._running.get(digest)
        if running is None:
            work = self._run(address, username, lambda: _verify(password, stored, plain))
            running = self._running[digest] = asyncio.ensure_future(work)
            running.add_done_callback(lambda done: self._remember(digest, address, done))
        return await asyncio.shield(running)

    def _remember(self, digest: bytes, address: str, done: asyncio.Future[bool]) -> None:
        del self._running[digest]
        if done.cancelled() or done.exception() is not None:
            return
        if not done.result():
            self._queue.note_failure(address, time.monotonic())
        remembered = self._right if done.result() else self._wrong
        remembered[digest] = None
        if len(remembered) > _MAX_REMEMBERED:
            remembered.popitem(last=False)

    async def _run(self, address: str, username: str, work: Callable[[], Result]) -> Result:
        await self._await_turn(address, username)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._alone, work)
        finally:
            self._end_turn()

    async def _await_turn(self, address: str, username: str) -> None:
        """Wait until nobody else hashes and it is this one's turn, which takes the thread.

        Raises:
            TooManyLogins: too many wait already, or others came who go before.
        """
        place, displaced = self._queue.join(address, username, time.monotonic())
        if displaced is not None and not self._turns[displaced].done():
            self._turns[displaced].set_exception(TooManyLogins())
        if place is None:
            raise TooManyLogins
        turn = self._turns[place] = asyncio.get_running_loop().create_future()
        self._give_turn()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._end_turn()
            raise
        finally:
            self._queue.leave(place)
            del self._turns[place]

    def _end_turn(self) -> None:
        self._is_busy = False
        self._queue.end_turn()
        self._give_turn()

    def _give_turn(self) -> None:
        """Let the next one have the thread, where it is free."""
        while not self._is_busy and (place := self._queue.next(time.monotonic())) is not None:
            turn = self._turns[place]
            if not turn.done():
                self._is_busy = True
                turn.set_result(None)

    def _alone(self, work: Callable[[], Result]) -> Result:
        """Do `work` while no other worker of the node hashes."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            return work()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _digest(self, username: str, password: str, stored: str | None) -> bytes:
        text = f"{stored or username}\0{password}"
        return hmac.digest(self._secret, text.encode("utf-8", "surrogatepass"), "sha256")


def _verify(password: str, stored: str | None, plain: str | None) -> bool:
    if stored is not None:
        return verify_password(password, stored)
    # For its time alone.
    hash_password(password)
    return plain is not None and hmac.compare_digest(plain.encode(), password.encode())


def _be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
