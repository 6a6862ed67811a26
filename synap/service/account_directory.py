"""Users and API keys as this node has them now, and the callers that they come to.

Each look reads the records in the store, so that what was changed or revoked counts from the next
request on, on every node that has applied it. What a record decodes to is kept as long as the
record is that very one: another reign may have written another one at the same offset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from synap.auth.accounts import (
    API_KEYS,
    USERS,
    ApiKey,
    User,
    api_key_record,
    decode_api_key,
    decode_user,
    permissions_of,
    user_record,
)
from synap.auth.permissions import ROLES, Caller, Permission
from synap.commands.records import Record
from synap.place import LogEnd
from synap.service import audit
from synap.service.local_node import LocalNode

if TYPE_CHECKING:
    from synap.config.keys import Auth

Account = TypeVar("Account", User, ApiKey)
# Callers that are kept, of users and of keys each; beyond it the kept ones are dropped.
_MAX_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Found(Generic[Account]):
    """A record, decoded.

    Attributes:
        account: The user or the key.
        record: It.
    """

    account: Account
    record: Record


class AccountDirectory:
    """The node's users and keys."""

    def __init__(self, node: LocalNode, auth: Auth) -> None:
        self._node = node
        self.root_name = auth.root.username
        self.roles = {
            name: tuple(Permission(each.resource, each.action) for each in permissions)
            for name, permissions in auth.roles.items()
        }
        self.root = self.caller_for(self.root_name, ROLES["admin"])
        self._users: dict[bytes, tuple[Found[User], Caller]] = {}
        self._keys: dict[bytes, tuple[Found[ApiKey], Caller, Caller]] = {}

    def user(self, username: str) -> tuple[Found[User], Caller] | None:
        """Return a stored user and what they may do; None where there is none."""
        key = user_record(username)
        (record,) = self._node.reader().get_accounts((key,))
        kept = self._users.get(key)
        if record is None:
            return None
        if kept is not None and kept[0].record == record:
            return kept
        user = decode_user(record.value)
        caller = self.caller_for(username, self.permissions_of(user), id=f"user {user.id}")
        found = Found(user, record), caller
        _keep(self._users, key, found)
        return found

    def api_key(self, key: str) -> tuple[ApiKey, Caller] | None:
        """Return the record of an API key and what it may do; None where it is void.

        It is where it was revoked, or its owner removed or disabled. Expiry and address are for
        whoever asks.
        """
        record_key = api_key_record(key)
        (record,) = self._node.reader().get_accounts((record_key,))
        if record is None:
            return None
        kept = self._keys.get(record_key)
        found = kept[0] if kept is not None else None
        if found is None or found.record != record:
            found, kept = Found(decode_api_key(record.value), record), None
        owner = self.owner_of(found.account)
        if owner is None:
            return None
        if kept is not None and kept[2] is owner:
            return found.account, kept[1]
        caller = self._caller_of_key(found.account, owner)
        _keep(self._keys, record_key, (found, caller, owner))
        return found.account, caller

    def owner_of(self, key: ApiKey) -> Caller | None:
        """Return what a key's owner may do; None where the owner is removed or disabled."""
        if key.owner == self.root_name:
            return self.root if key.owner_id == "" else None
        found = self.user(key.owner)
        if found is None or found[0].account.id != key.owner_id or not found[0].account.enabled:
            return None
        return found[1]

    def shown_user(self, username: str) -> dict[str, object] | None:
        """Return what others may see of a user, the root user included; None of nobody."""
        if username == self.root_name:
            return self.shown_root()
        found = self.user(username)
        return None if found is None else found[0].account.shown()

    def shown_root(self) -> dict[str, object]:
        """Return what others may see of the root user."""
        return User(
            username=self.root_name, id="", password_hash="", roles=("admin",), is_admin=True
        ).shown()

    def users(self) -> tuple[list[User], LogEnd]:
        """Return all stored users in the order of their names, and the end of the log."""
        records, end = self._node.reader().list_accounts(USERS)
        return [decode_user(record.value) for _, record in records], end

    def api_keys(self, id: str = "") -> tuple[list[tuple[bytes, Record, ApiKey]], LogEnd]:
        """Return the keys whose ids begin with `id`, each with its record, and the log's end."""
        records, end = self._node.reader().list_accounts(API_KEYS + id.encode())
        return [(key, record, decode_api_key(record.value)) for key, record in records], end

    def permissions_of(self, user: User) -> tuple[Permission, ...]:
        """Return everything that a user is allowed, also while disabled."""
        return permissions_of(user, self.roles)

    def caller_for(
        self,
        name: str,
        permissions: Iterable[Permission],
        within: Caller | None = None,
        label: str = "",
        id: str = "",
    ) -> Caller:
        """Return a caller whose refusals are in the audit log, under `label` or by name."""
        shown = label or name

        def on_refusal(resource: str, action: str) -> None:
            audit.forbidden(shown, resource, action)

        return Caller(name, permissions, within, on_refusal, id)

    def _caller_of_key(self, key: ApiKey, owner: Caller) -> Caller:
        permissions = owner.permissions if key.permissions is None else key.permissions
        label = f"{key.owner} (key {key.id})"
        return self.caller_for(key.owner, permissions, owner, label, f"key {key.id}")


Kept = TypeVar("Kept")


def _keep(kept: dict[bytes, Kept], key: bytes, value: Kept) -> None:
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[key] = value
