"""`/auth/keys`: API keys.

Users make keys that may do no more than they, and see and revoke their own; whoever has `admin` on
`auth:keys` those of all. A key itself makes and revokes none without that, so that one for reading
writes nothing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from falcon.asgi import Response

from synap.auth.accounts import (
    API_KEY_ID_CHARACTERS,
    NEVER_EXPIRES,
    ApiKey,
    api_key_record,
    check_permissions,
    checked_networks,
    encode,
    id_of_record,
    user_record,
)
from synap.auth.passwords import new_api_key
from synap.auth.permissions import Caller, Permission
from synap.commands.accounts import ChangeAccounts
from synap.http.api import bodies
from synap.http.api.endpoints.account_resource import AccountResource, is_by_password
from synap.http.api.request import App, Request
from synap.request_errors import AccountConflict, AccountNotFound
from synap.service.account_directory import AccountDirectory
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.shared.node_clock import now_ms

# A hundred years.
_MAX_LIFE_SECONDS = 3_155_760_000
MAX_KEYS_OF_USER = 1000


class KeyBody(msgspec.Struct, gc=False):
    """`POST /auth/keys`."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=1, le=_MAX_LIFE_SECONDS)] | None = None
    permissions: list[Permission] | None = None
    allowed_ips: list[str] = []


_key_body = bodies.decoder(KeyBody)


def add_routes(app: App, node: LocalNode, api: NodeApi, directory: AccountDirectory) -> None:
    """Add the endpoints."""
    keys = ApiKeys(node, api, directory)
    app.add_route("/auth/keys", keys)
    app.add_route("/auth/keys/{id:key}", keys, suffix="one")


class ApiKeys(AccountResource):
    """The API keys that are stored."""

    async def on_get(self, req: Request, resp: Response) -> None:
        await self.await_applied(req)
        username = self.username_of(req.caller)
        keys, end = self._directory.api_keys()
        sees_all = req.caller.may("admin", b"auth:keys")
        shown = [key.shown() for _, _, key in keys if sees_all or key.owner == username]
        self.answer_read(resp, end, {"success": True, "keys": shown})

    async def on_post(self, req: Request, resp: Response) -> None:
        owner = self.username_of(req.caller)
        if not is_by_password(req.caller):
            req.caller.require("admin", b"auth:keys")
        body = await self.read_body(req, _key_body)
        text = new_api_key()
        record = api_key_record(text)
        now = now_ms()
        life = body.expires_in_seconds
        key = ApiKey(
            id=id_of_record(record),
            name=body.name,
            owner=owner,
            owner_id="",
            permissions=_granted(req.caller, body.permissions),
            allowed_ips=checked_networks(body.allowed_ips),
            created_ms=now,
            expires_ms=NEVER_EXPIRES if life is None else now + life * 1000,
        )
        done = await self.change(req, lambda: self._plan_new(record, key))
        answer = {
            "id": key.id,
            "key": text,
            "name": key.name,
            "expires_at": key.expires_ms // 1000 or None,
            "created_at": key.created_ms // 1000,
        }
        message = "keep the key: it is shown this once"
        self.answer_write(resp, done.end, {"success": True, "key": answer, "message": message})

    async def on_delete_one(self, req: Request, resp: Response, id: bytes) -> None:
        caller, username = req.caller, self.username_of(req.caller)
        key_id = id.decode()

        def plan() -> ChangeAccounts:
            found, _ = self._directory.api_keys(key_id)
            found = found if len(key_id) == API_KEY_ID_CHARACTERS else []
            is_own = bool(found) and found[0][2].owner == username
            if not is_own or not is_by_password(caller):
                caller.require("admin", b"auth:keys")
            if not found:
                raise AccountNotFound(f"there is no API key {key_id}")
            record, stored, _ = found[0]
            return ChangeAccounts(((record, stored.version),), removes=(record,))

        done = await self.change(req, plan)
        message = f"the API key {key_id} is revoked"
        self.answer_write(resp, done.end, {"success": True, "message": message})

    def _plan_new(self, record: bytes, key: ApiKey) -> ChangeAccounts:
        seen = [(record, 0)]
        if key.owner != self._directory.root_name:
            found = self._directory.user(key.owner)
            if found is None:
                raise AccountNotFound
            seen.append((user_record(key.owner), found[0].record.version))
            key = msgspec.structs.replace(key, owner_id=found[0].account.id)
        stored, _ = self._directory.api_keys()
        own = [(each, other) for each, _, other in stored if other.owner == key.owner]
        expired = [each for each, other in own if other.is_expired(key.created_ms)]
        if len(own) - len(expired) >= MAX_KEYS_OF_USER:
            raise AccountConflict(f"{key.owner} has {MAX_KEYS_OF_USER} keys; revoke one first")
        return ChangeAccounts(tuple(seen), ((record, encode(key)),), tuple(expired))


def _granted(caller: Caller, wanted: list[Permission] | None) -> tuple[Permission, ...] | None:
    """Return what a new key may do; None for all that its owner may."""
    if wanted is None:
        return None if is_by_password(caller) else caller.permissions
    check_permissions(wanted)
    caller.require_all(wanted)
    return tuple(Permission(each.resource, each.action) for each in wanted)
