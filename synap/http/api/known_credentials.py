"""Credentials that were checked before, for requests that come with the same ones again.

What is known is dropped as a whole when the accounts change, so that a key that was revoked, or a
user who was disabled, is refused from the next request on. Neither passwords nor keys stay in
memory: they are known by a hash under a secret of this process. Not kept are keys that work from
some addresses only, and whatever was refused.
"""

from __future__ import annotations

import secrets
from hashlib import blake2s

import msgspec

from synap.auth.accounts import NEVER_EXPIRES
from synap.auth.permissions import ANONYMOUS, Caller, KeyRule
from synap.errors import ReadRefused
from synap.http.server.head_lines import CREDENTIALS, SPECIAL
from synap.service.local_node import LocalNode
from synap.shared.node_clock import now_ms
from synap.store import StoreReader

_MAX_KEPT = 4096
_MAX_VALUE_BYTES = 512
_DIGEST_BYTES = 16


class Version(msgspec.Struct, frozen=True, gc=False):
    """The state of the accounts that something was found in."""

    number: int
    reader: StoreReader


class KnownCredentials:
    """What one HTTP worker knows.

    Attributes:
        caller: Who was found last. What is refused to them is not in the audit log: the long way
            refuses it once more, and puts it there.
    """

    def __init__(self, node: LocalNode, rule: KeyRule | None = None) -> None:
        """
        Args:
            rule: Binds whoever is known; None where all keys are here.
        """
        self.caller = ANONYMOUS
        self._rule = rule
        self._node = node
        self._hash = blake2s(digest_size=_DIGEST_BYTES, key=secrets.token_bytes(_DIGEST_BYTES))
        self._version: Version | None = None
        self._kept: dict[bytes, tuple[Caller, int]] = {}

    def version(self) -> Version | None:
        """Return what to keep credentials by that are looked up from now on; None for none."""
        try:
            # In this order: what is looked up then is at least as new as the number.
            return Version(self._node.accounts.cells[0], self._node.reader())
        except ReadRefused:
            return None

    def keep(
        self, value: bytes, version: Version | None, caller: Caller, expires_ms: int = NEVER_EXPIRES
    ) -> None:
        """Know credentials again.

        Args:
            value: As they were sent, with the name of their header in front.
            version: As it was before they were looked up.
            caller: Whose they are.
            expires_ms: Wall clock in ms from which they are void.
        """
        if version is None or len(value) > _MAX_VALUE_BYTES:
            return
        if version != self._version:
            self._kept.clear()
            self._version = version
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        digest = self.digest(value)
        if digest not in self._kept:
            known = caller.quiet()
            self._kept[digest] = (
                known if self._rule is None else known.bound(self._rule),
                expires_ms,
            )

    def find(self, digest: bytes) -> int:
        """Find out whose credentials these are; see `keep` and `caller`.

        Args:
            digest: Of what `keep` was given.

        Returns:
            The number of their line in a head: `head_lines.CREDENTIALS`, or SPECIAL.
        """
        version, node = self._version, self._node
        if version is None or version.number != node.accounts.cells[0]:
            return SPECIAL
        found = self._kept.get(digest)
        try:
            if found is None or node.reader() is not version.reader:
                return SPECIAL
        except ReadRefused:
            return SPECIAL
        self.caller, expires_ms = found
        return SPECIAL if expires_ms != NEVER_EXPIRES and expires_ms <= now_ms() else CREDENTIALS

    def digest(self, value: bytes) -> bytes:
        """Return the hash that stands for bytes with credentials in them."""
        keyed = self._hash.copy()
        keyed.update(value)
        return keyed.digest()
