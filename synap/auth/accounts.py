"""Users and API keys as records of the store's accounts, and what they may do.

    key                       value, as JSON
    user/<name>               User
    key/<SHA-256 of the key>  ApiKey

Unknown fields are ignored, so that a node can read what a newer one wrote. A key belongs to one
user and can do no more than the user; a user is told apart from an earlier one of the same name by
the id. The root user is not here: the configuration has it.

Pure: passwords are hashed in `synap.auth.passwords`, records read in
`synap.service.account_directory`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network

import msgspec

from synap.auth.permissions import ROLES, Permission
from synap.config.account_limits import MIN_PASSWORD_CHARACTERS, NAME_PATTERN
from synap.request_errors import FieldInvalid

USERS = b"user/"
API_KEYS = b"key/"
API_KEY_PREFIX = "sk_"
# Of the hash that a key is stored under, what names it: enough that no two are alike.
API_KEY_ID_CHARACTERS = 16
NEVER_EXPIRES = 0
MAX_PASSWORD_BYTES = 1024
_MAX_PERMISSIONS = 256
_MAX_PATTERN_CHARACTERS = 1024
_MAX_ALLOWED_IPS = 256

_NAME = re.compile(NAME_PATTERN)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user.

    Attributes:
        username: Fits NAME_PATTERN.
        id: Random; another one where a user is made again under an old name.
        password_hash: As `synap.auth.passwords.hash_password` wrote it.
        roles: Names of roles; one that the configuration does not know allows nothing.
        is_admin: Whether this user may do everything, whatever the roles.
        enabled: Whether the user and the user's keys may do anything.
        created_ms: Wall clock in ms.
    """

    username: str
    id: str
    password_hash: str
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    enabled: bool = True
    created_ms: int = 0

    def shown(self) -> dict[str, object]:
        """Return what others may see of the user."""
        return {
            "username": self.username,
            "roles": self.roles,
            "is_admin": self.is_admin,
            "enabled": self.enabled,
        }


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, without the key.

    Attributes:
        id: The first characters of its hash.
        name: What its owner calls it.
        owner: The user whom it belongs to, and the user's id.
        permissions: What it may do, within what its owner may; None for all of that.
        allowed_ips: Networks that it works from; none for everywhere.
        created_ms: Wall clock in ms.
        expires_ms: Wall clock in ms from which it is void; NEVER_EXPIRES for none.
    """

    id: str
    name: str
    owner: str
    owner_id: str
    permissions: tuple[Permission, ...] | None = None
    allowed_ips: tuple[str, ...] = ()
    created_ms: int = 0
    expires_ms: int = NEVER_EXPIRES

    def works_from(self, address: str) -> bool:
        """Say whether the key may be used from an IP address."""
        if not self.allowed_ips:
            return True
        try:
            client = ip_address(address)
        except ValueError:
            return False
        return any(client in ip_network(network) for network in self.allowed_ips)

    def is_expired(self, now_ms: int) -> bool:
        return self.expires_ms != NEVER_EXPIRES and now_ms >= self.expires_ms

    def shown(self) -> dict[str, object]:
        """Return what its owner and administrators may see of it."""
        return {
            "id": self.id,
            "name": self.name,
            "username": self.owner,
            "permissions": msgspec.to_builtins(self.permissions),
            "allowed_ips": self.allowed_ips,
            "created_at": self.created_ms // 1000,
            "expires_at": self.expires_ms // 1000 or None,
        }


encode = msgspec.json.encode
decode_user = msgspec.json.Decoder(User).decode
decode_api_key = msgspec.json.Decoder(ApiKey).decode


def user_record(username: str) -> bytes:
    """Return the record's key of a user."""
    return USERS + username.encode()


def api_key_record(key: str) -> bytes:
    """Return the record's key of an API key, from the key itself."""
    return API_KEYS + sha256(key.encode()).hexdigest().encode()


def id_of_record(record: bytes) -> str:
    """Return the id of the API key that is stored under `record`."""
    return record[len(API_KEYS) :][:API_KEY_ID_CHARACTERS].decode()


def permissions_of(user: User, roles: Mapping[str, Sequence[Permission]]) -> tuple[Permission, ...]:
    """Return everything that a user is allowed, also while disabled.

    Args:
        roles: The roles of the configuration; Synap's own are known here.
    """
    if user.is_admin:
        return ROLES["admin"]
    return tuple(
        permission for role in user.roles for permission in (ROLES.get(role) or roles.get(role, ()))
    )


def check_username(name: str) -> None:
    """Raise FieldInvalid unless a user can have this name."""
    if _NAME.fullmatch(name) is None:
        raise FieldInvalid(
            "field 'username': 1 to 64 letters, digits and the characters . _ @ - are allowed"
        )


def check_password(password: str, field: str) -> None:
    """Raise FieldInvalid unless `password` is neither too short nor too long."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise FieldInvalid(f"field '{field}': at least {MIN_PASSWORD_CHARACTERS} characters")
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise FieldInvalid(f"field '{field}': at most {MAX_PASSWORD_BYTES} bytes")


def check_permissions(permissions: Sequence[Permission]) -> None:
    """Raise FieldInvalid where permissions are too many or their patterns of a wrong size."""
    if len(permissions) > _MAX_PERMISSIONS:
        raise FieldInvalid(f"field 'permissions': at most {_MAX_PERMISSIONS}")
    for number, permission in enumerate(permissions):
        if not 1 <= len(permission.resource) <= _MAX_PATTERN_CHARACTERS:
            raise FieldInvalid(
                f"field 'permissions[{number}].resource': 1 to {_MAX_PATTERN_CHARACTERS} characters"
            )


def checked_networks(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return addresses and networks in their usual form.

    Raises:
        FieldInvalid: one is none, or they are too many.
    """
    if len(addresses) > _MAX_ALLOWED_IPS:
        raise FieldInvalid(f"field 'allowed_ips': at most {_MAX_ALLOWED_IPS}")
    networks = []
    for number, address in enumerate(addresses):
        try:
            networks.append(str(ip_network(address)))
        except ValueError as error:
            raise FieldInvalid(f"field 'allowed_ips[{number}]': {error}") from error
    return tuple(networks)
