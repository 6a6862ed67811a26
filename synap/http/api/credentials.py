"""Who asks: from the credentials of a request to a caller.

`Authorization: Bearer <key>`, `X-API-Key: <key>` and `Authorization: Basic`; never the URL.
Whatever is wrong with them, the answer is the same.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING

from synap.auth.accounts import API_KEY_PREFIX, MAX_PASSWORD_BYTES, User
from synap.auth.permissions import Caller
from synap.http.api.headers import API_KEY, AUTHORIZATION, HeaderName
from synap.http.api.known_credentials import KnownCredentials, Version
from synap.request_errors import NotAuthenticated
from synap.service import audit
from synap.service.account_directory import AccountDirectory
from synap.service.password_checks import PasswordChecks
from synap.shared.node_clock import now_ms

if TYPE_CHECKING:
    from synap.config.keys import Auth

# Nothing longer is a key.
_MAX_KEY_BYTES = 256


class Credentials:
    """Checks credentials; belongs to one HTTP worker."""

    def __init__(
        self,
        directory: AccountDirectory,
        checks: PasswordChecks,
        auth: Auth,
        known: KnownCredentials,
    ) -> None:
        """
        Args:
            known: Gets those that are right.
        """
        self._directory = directory
        self._known = known
        self._checks = checks
        password = auth.root.password
        self._root_password = None if password is None else password.get_secret_value()

    async def caller_of(self, headers: Mapping[HeaderName, bytes], address: str) -> Caller | None:
        """Return who asks; None where there are no credentials.

        Args:
            headers: By their names in lower case.
            address: The client's.

        Raises:
            NotAuthenticated: the credentials are wrong.
            TooManyLogins, ReadRefused: they can't be checked now.
        """
        version = self._known.version()
        authorization = headers.get(AUTHORIZATION)
        if authorization is None:
            key = headers.get(API_KEY)
            if key is None:
                return None
            return self._caller_of_key(key.strip(), address, API_KEY + key, version)
        sent = AUTHORIZATION + authorization
        scheme, _, value = authorization.strip().partition(b" ")
        match scheme.lower():
            case b"bearer":
                return self._caller_of_key(value.strip(), address, sent, version)
            case b"basic":
                username, password = _split_basic(value)
                caller, _ = await self.log_in(username, password, address)
                self._known.keep(sent, version, caller)
                return caller
        raise _refused("no known scheme")

    async def log_in(
        self, username: str, password: str, address: str, *, is_session: bool = False
    ) -> tuple[Caller, User | None]:
        """Return the caller and, but for the root user, the user whom name and password fit.

        Args:
            username: His name.
            password: What they say is their password.
            address: The client's.
            is_session: Whether the caller says that a session begins now, which the audit log tells
                in any case.

        Raises:
            NotAuthenticated: they fit nobody, or somebody who is disabled.
            TooManyLogins, ReadRefused: they can't be checked now.
        """
        if len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
            raise _refused("the password is too long", username)
        is_new = is_session or not self._remembers(username, password)
        if username == self._directory.root_name:
            # Without the store: somebody must be able to mend a node that can't read it.
            if not await self._checks.verify(
                username, password, address, plain=self._root_password
            ):
                raise _refused("wrong name or password", username)
            caller, user = self._directory.root, None
        else:
            caller, user = await self._log_in_user(username, password, address)
        if is_new:
            audit.record("login", f"{username} logged in", caller=username)
        return caller, user

    async def _log_in_user(self, username: str, password: str, address: str) -> tuple[Caller, User]:
        found = self._directory.user(username)
        stored = None if found is None else found[0].account.password_hash
        is_right = await self._checks.verify(username, password, address, stored=stored)
        if found is None or not is_right:
            raise _refused("wrong name or password", username)
        # Whoever was removed or changed while the hash was made.
        found = self._directory.user(username)
        if found is None or found[0].account.password_hash != stored:
            raise _refused("the account has changed", username)
        if not found[0].account.enabled:
            raise _refused("the user is disabled", username)
        return found[1], found[0].account

    def _remembers(self, username: str, password: str) -> bool:
        stored = None
        if username != self._directory.root_name:
            found = self._directory.user(username)
            stored = None if found is None else found[0].account.password_hash
        return self._checks.remembers(username, password, stored=stored)

    def _caller_of_key(
        self, raw: bytes, address: str, sent: bytes, version: Version | None
    ) -> Caller:
        if len(raw) > _MAX_KEY_BYTES or not raw.isascii():
            raise _refused("not an API key")
        text = raw.decode()
        if not text.startswith(API_KEY_PREFIX):
            raise _refused("not an API key")
        found = self._directory.api_key(text)
        if found is None:
            raise _refused("unknown API key")
        key, caller = found
        label = f"{key.owner} (key {key.id})"
        if key.is_expired(now_ms()):
            raise _refused("the key has expired", label)
        if not key.works_from(address):
            raise _refused("the key does not work from there", label)
        if not key.allowed_ips:
            self._known.keep(sent, version, caller, key.expires_ms)
        return caller


def _split_basic(value: bytes) -> tuple[str, str]:
    try:
        username, colon, password = b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _refused("not Basic credentials") from error
    if not colon:
        raise _refused("not Basic credentials")
    return username, password


def _refused(why: str, caller: str = "") -> NotAuthenticated:
    """Return the error for the client, and tell the reason to the audit log alone."""
    audit.record(
        "login_refused", f"credentials were refused: {why}",
        caller=caller[:128], is_refusal=True, why=why,
    )  # fmt: skip
    return NotAuthenticated()
