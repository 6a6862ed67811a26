"""`/auth/login`, `/auth/me`, `/auth/users…`, `/auth/roles`: users and what they may do.

Nobody gives others what they do not have, or changes somebody who may do more than they. Nobody
takes their own rights away, and the root user is the configuration's, so that there is always
somebody left who may do everything.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from falcon.asgi import Response

from synap.auth.accounts import User, check_password, check_username, encode, user_record
from synap.auth.passwords import new_id
from synap.auth.permissions import ROLES, Caller
from synap.commands.accounts import ChangeAccounts
from synap.http.api import bodies
from synap.http.api.credentials import Credentials
from synap.http.api.endpoints.account_resource import AccountResource, is_by_password
from synap.http.api.request import App, Request
from synap.place import LogEnd
from synap.request_errors import AccountConflict, AccountNotFound, FieldInvalid
from synap.service import audit
from synap.service.account_directory import AccountDirectory
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.password_checks import PasswordChecks
from synap.shared.node_clock import now_ms

_USERS = b"auth:users"


class LoginBody(msgspec.Struct, gc=False):
    """`/auth/login`."""

    username: str
    password: str


class UserBody(msgspec.Struct, gc=False):
    """`POST /auth/users`."""

    username: str
    password: str
    roles: list[str] = []
    is_admin: bool = False


class NewPasswordBody(msgspec.Struct, gc=False):
    """`/auth/users/{u}/password`."""

    new_password: str


class RoleBody(msgspec.Struct, gc=False):
    """`/auth/users/{u}/roles`."""

    role: str


# More than a name and a password need, of whoever it is.
MAX_LOGIN_BYTES = 4096

_login_body = bodies.decoder(LoginBody)
_user_body = bodies.decoder(UserBody)
_new_password_body = bodies.decoder(NewPasswordBody)
_role_body = bodies.decoder(RoleBody)


def add_routes(
    app: App,
    node: LocalNode,
    api: NodeApi,
    directory: AccountDirectory,
    checks: PasswordChecks,
    credentials: Credentials,
) -> None:
    """Add the endpoints."""
    login = Login(node, api, directory, credentials)
    app.add_route("/auth/login", login)
    app.add_route("/auth/me", login, suffix="me")
    users = Users(node, api, directory, checks)
    app.add_route("/auth/roles", users, suffix="known_roles")
    app.add_route("/auth/users", users, suffix="all")
    one = "/auth/users/{name:key}"
    app.add_route(one, users, suffix="one")
    for word in ("password", "enable", "disable", "roles"):
        app.add_route(f"{one}/{word}", users, suffix=word)
    app.add_route(f"{one}/roles/{{role:key}}", users, suffix="role")


class Login(AccountResource):
    """Who somebody is."""

    def __init__(
        self, node: LocalNode, api: NodeApi, directory: AccountDirectory, credentials: Credentials
    ) -> None:
        super().__init__(node, api, directory)
        self._credentials = credentials

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await self.read_body(req, _login_body, limit_bytes=MAX_LOGIN_BYTES)
        caller, user = await self._credentials.log_in(
            body.username, body.password, audit.address_of_request.get(), is_session=True
        )
        shown = self._directory.shown_root() if user is None else user.shown()
        answer = {"success": True, "user": shown, "message": f"welcome, {caller.name}"}
        self.answer_read(resp, self._node.applied_end(), answer)

    async def on_get_me(self, req: Request, resp: Response) -> None:
        await self.await_applied(req)
        name = self.username_of(req.caller)
        shown = self._directory.shown_user(name)
        if shown is None:
            raise AccountNotFound
        shown["permissions"] = msgspec.to_builtins(req.caller.permissions)
        self.answer_read(resp, self._node.applied_end(), shown)


class Users(AccountResource):
    """The users that are stored."""

    def __init__(
        self, node: LocalNode, api: NodeApi, directory: AccountDirectory, checks: PasswordChecks
    ) -> None:
        super().__init__(node, api, directory)
        self._checks = checks

    async def on_get_known_roles(self, req: Request, resp: Response) -> None:
        req.caller.require("admin", b"auth:roles")
        known = [
            {"name": name, "permissions": msgspec.to_builtins(permissions)}
            for name, permissions in (*ROLES.items(), *self._directory.roles.items())
        ]
        self.answer_read(resp, self._node.applied_end(), {"success": True, "roles": known})

    async def on_get_all(self, req: Request, resp: Response) -> None:
        req.caller.require("admin", _USERS)
        await self.await_applied(req)
        users, end = self._directory.users()
        shown = [self._directory.shown_root(), *(user.shown() for user in users)]
        self.answer_read(resp, end, {"success": True, "users": shown})

    async def on_post_all(self, req: Request, resp: Response) -> None:
        req.caller.require("admin", _USERS)
        body = await self.read_body(req, _user_body)
        check_username(body.username)
        check_password(body.password, "password")
        for number, role in enumerate(body.roles):
            self._check_role(role, f"roles[{number}]")
        user = User(
            username=body.username,
            id=new_id(),
            password_hash="",
            roles=tuple(dict.fromkeys(body.roles)),
            is_admin=body.is_admin,
            created_ms=now_ms(),
        )
        self._require_rights_of(req.caller, user)
        # What is known to fail is not worth a hash.
        self._plan_new(user)
        hashed = await self._checks.hash(body.password, audit.address_of_request.get())
        user = msgspec.structs.replace(user, password_hash=hashed)
        done = await self.change(req, lambda: self._plan_new(user))
        self._answer(resp, done.end, f"the user {user.username} is made")

    async def on_get_one(self, req: Request, resp: Response, name: bytes) -> None:
        username = name.decode()
        if self.username_of(req.caller) != username:
            req.caller.require("admin", _USERS)
        await self.await_applied(req)
        shown = self._directory.shown_user(username)
        if shown is None:
            raise _no_user(username)
        self.answer_read(resp, self._node.applied_end(), shown)

    async def on_delete_one(self, req: Request, resp: Response, name: bytes) -> None:
        def plan() -> ChangeAccounts:
            user, version = self._changeable(req.caller, name, takes_away=True)
            keys, _ = self._directory.api_keys()
            own = [record for record, _, key in keys if key.owner == user.username]
            record = user_record(user.username)
            return ChangeAccounts(((record, version),), removes=(record, *own))

        done = await self.change(req, plan)
        self._answer(resp, done.end, f"the user {name.decode()} is removed, with all API keys")

    async def on_post_password(self, req: Request, resp: Response, name: bytes) -> None:
        caller = req.caller
        is_own = self.username_of(caller) == name.decode() and is_by_password(caller)
        if not is_own:
            caller.require("admin", _USERS)
        body = await self.read_body(req, _new_password_body)
        check_password(body.new_password, "new_password")
        self._changeable(caller, name, is_own=is_own)
        hashed = await self._checks.hash(body.new_password, audit.address_of_request.get())

        def plan() -> ChangeAccounts:
            user, version = self._changeable(caller, name, is_own=is_own)
            return _replacing(msgspec.structs.replace(user, password_hash=hashed), version)

        done = await self.change(req, plan)
        self._answer(resp, done.end, f"the user {name.decode()} has a new password")

    async def on_post_enable(self, req: Request, resp: Response, name: bytes) -> None:
        await self._modify(req, resp, name, lambda user: _with(user, enabled=True), "is enabled")

    async def on_post_disable(self, req: Request, resp: Response, name: bytes) -> None:
        await self._modify(
            req, resp, name, lambda user: _with(user, enabled=False), "is disabled",
            takes_away=True,
        )  # fmt: skip

    async def on_post_roles(self, req: Request, resp: Response, name: bytes) -> None:
        req.caller.require("admin", _USERS)
        role = (await self.read_body(req, _role_body)).role
        self._check_role(role, "role")

        def add(user: User) -> User:
            return _with(user, roles=tuple(dict.fromkeys((*user.roles, role))))

        await self._modify(req, resp, name, add, f"has the role {role}")

    async def on_delete_role(self, req: Request, resp: Response, name: bytes, role: bytes) -> None:
        removed = role.decode()

        def remove(user: User) -> User:
            if removed not in user.roles:
                raise AccountNotFound(f"the user {user.username} has no role {removed}")
            return _with(user, roles=tuple(each for each in user.roles if each != removed))

        words = f"has the role {removed} no more"
        await self._modify(req, resp, name, remove, words, takes_away=True)

    async def _modify(
        self,
        req: Request,
        resp: Response,
        name: bytes,
        modify: Callable[[User], User],
        words: str,
        *,
        takes_away: bool = False,
    ) -> None:
        def plan() -> ChangeAccounts:
            user, version = self._changeable(req.caller, name, takes_away=takes_away)
            modified = modify(user)
            self._require_rights_of(req.caller, modified)
            return _replacing(modified, version)

        done = await self.change(req, plan)
        self._answer(resp, done.end, f"the user {name.decode()} {words}")

    def _changeable(
        self, caller: Caller, name: bytes, *, takes_away: bool = False, is_own: bool = False
    ) -> tuple[User, int]:
        """Return a user whom the caller may change, and the record's version.

        Args:
            takes_away: Whether rights are taken away, which nobody does to himself.
            is_own: Whether users may change this of their own account.
        """
        username = name.decode()
        if not is_own:
            caller.require("admin", _USERS)
        if username == self._directory.root_name:
            raise _root(username)
        if takes_away and caller.name == username:
            raise AccountConflict("nobody takes their own rights away; let another administrator")
        found = self._directory.user(username)
        if found is None:
            raise _no_user(username)
        user = found[0].account
        if not is_own:
            self._require_rights_of(caller, user)
        return user, found[0].record.version

    def _plan_new(self, user: User) -> ChangeAccounts:
        if user.username == self._directory.root_name:
            raise _root(user.username)
        if self._directory.user(user.username) is not None:
            raise AccountConflict(f"there is a user {user.username} already")
        return _replacing(user, 0)

    def _require_rights_of(self, caller: Caller, user: User) -> None:
        caller.require_all(self._directory.permissions_of(user))

    def _check_role(self, role: str, field: str) -> None:
        known = [*ROLES, *self._directory.roles]
        if role not in known:
            raise FieldInvalid(f"field '{field}': unknown role; known are {', '.join(known)}")

    def _answer(self, resp: Response, end: LogEnd, message: str) -> None:
        self.answer_write(resp, end, {"success": True, "message": message})


def _replacing(user: User, version: int) -> ChangeAccounts:
    record = user_record(user.username)
    return ChangeAccounts(((record, version),), puts=((record, encode(user)),))


def _with(user: User, **changes: object) -> User:
    return msgspec.structs.replace(user, **changes)


def _no_user(username: str) -> AccountNotFound:
    return AccountNotFound(f"there is no user {username}")


def _root(username: str) -> AccountConflict:
    return AccountConflict(
        f"{username} is the root user, who is changed by the configuration alone (auth.root)"
    )
