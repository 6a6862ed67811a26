"""Who may do what: permissions, roles and callers.

A resource is a name with its kind in front: `kv:<key>` is a key, `kv:*` all keys at once,
`node:<work>` the node, `auth:<work>` its accounts. A permission allows an action on the resources
that its pattern fits; `*` in a pattern stands for any text, and nothing else has a meaning of its
own. So a pattern covers another one exactly where it fits that one's text.

Pure: who a caller is, `synap.http.api.credentials` finds out; `synap.service.node_api` asks here.
What a command needs, it knows itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Literal, NoReturn, Protocol, Self, get_args

import msgspec

from synap.commands.commands import Command
from synap.commands.key_spans import KeySpan, apart, common
from synap.commands.keys import Flush
from synap.request_errors import Forbidden

Action = Literal["read", "write", "delete", "admin", "all"]
ACTIONS: tuple[Action, ...] = get_args(Action)
# What the resource of a key begins with.
_KEY = b"kv:"
# `all` is a word for these in a permission, and nothing that anybody does.
_SINGLE_ACTIONS: tuple[Action, ...] = ("read", "write", "delete", "admin")


class Permission(msgspec.Struct, frozen=True, gc=False):
    """One thing that is allowed.

    Attributes:
        resource: Pattern of the resources, such as `*` or `kv:user:*`.
        action: What may be done with them.
    """

    resource: str
    action: Action


ROLES: dict[str, tuple[Permission, ...]] = {
    "admin": (Permission("*", "all"),),
    "readwrite": (
        Permission("kv:*", "read"),
        Permission("kv:*", "write"),
        Permission("kv:*", "delete"),
        Permission("node:*", "read"),
    ),
    "readonly": (Permission("kv:*", "read"), Permission("node:*", "read")),
}
"""The roles that every node knows; the configuration may add others."""


class KeyRule(Protocol):
    """What may be done with which keys whoever asks: a cluster of several has some of them."""

    def check(self, needs: Iterable[tuple[Action, bytes]]) -> None:
        """Raise a SynapError where one request may not do all this with resources."""


class Caller:
    """Somebody who asks, and what they may do.

    Attributes:
        name: The user's; "" for one who did not say.
        permissions: What they have by themselves.
        within: Somebody whose permissions bound these: a key's owner.
        id: Tells the caller apart from others of the name: an earlier user, another key.
        is_limited: Whether there is anything that they may not do. Paths that many requests take
            test this first.
    """

    __slots__ = (
        "_beginnings", "_fitting", "_of_keys", "_on_refusal", "_readable", "_rule", "id",
        "is_limited", "name", "permissions", "within",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        permissions: Iterable[Permission],
        within: Caller | None = None,
        on_refusal: Callable[[str, Action], None] | None = None,
        id: str = "",
    ) -> None:
        """
        Args:
            on_refusal: Told the resource and the action of what is refused.
        """
        self.name = name
        self.id = id
        self._on_refusal = on_refusal
        self._rule: KeyRule | None = None
        self.permissions = tuple(permissions)
        self.within = within
        # Patterns by their actions: all in parts; of those that end in their only `*`, the rest.
        self._fitting: dict[Action, list[tuple[bytes, ...]]] = {}
        self._beginnings: dict[Action, tuple[bytes, ...]] = {}
        for permission in self.permissions:
            parts = tuple(permission.resource.encode().split(b"*"))
            single = _SINGLE_ACTIONS if permission.action == "all" else (permission.action,)
            for action in single:
                self._fitting.setdefault(action, []).append(parts)
                if len(parts) == 2 and not parts[1]:
                    self._beginnings[action] = (*self._beginnings.get(action, ()), parts[0])
        # What is allowed for some key at all.
        self._of_keys = frozenset(
            action
            for action, fitting in self._fitting.items()
            if any(_key_span(parts) is not None for parts in fitting)
        )
        self._readable: tuple[KeySpan, ...] | None = None
        is_bounded = within is not None and within.is_limited
        self.is_limited: bool = is_bounded or not self.may_grant((Permission("*", "all"),))

    def quiet(self) -> Caller:
        """Return one who may do the same, and whose refusals nobody is told."""
        made = Caller(self.name, self.permissions, self.within, None, self.id)
        return made if self._rule is None else made.bound(self._rule)

    def bound(self, rule: KeyRule) -> Self:
        """Return one who may do what this one may, as far as `rule` lets it."""
        bound = copy(self)
        bound._rule, bound.is_limited = rule, True
        return bound

    def may(self, action: Action, resource: bytes) -> bool:
        """Say whether `action` on `resource` is allowed."""
        if self.within is not None and not self.within.may(action, resource):
            return False
        # Most patterns are a beginning, and one look settles all of those.
        if resource.startswith(self._beginnings.get(action, ())):
            return True
        return any(_fits(parts, resource) for parts in self._fitting.get(action, ()))

    def may_read(self, key: bytes) -> bool:
        """Say whether the key may be read."""
        return self.may("read", b"kv:" + key)

    @property
    def readable(self) -> tuple[KeySpan, ...]:
        """Where all keys lie that may be read, apart from each other and in order.

        A pattern with text behind a `*` may leave out some keys of its span.
        """
        if self._readable is None:
            spans = [_key_span(parts) for parts in self._fitting.get("read", ())]
            own = apart(span for span in spans if span is not None)
            self._readable = own if self.within is None else common(own, self.within.readable)
        return self._readable

    def may_grant(self, permissions: Iterable[Permission]) -> bool:
        """Say whether everything that `permissions` allow is allowed to this caller."""
        return self._first_not_had(permissions) is None

    def require(self, action: Action, resource: bytes) -> None:
        """Raise Forbidden unless `action` on `resource` is allowed."""
        if self.is_limited:
            if not self.may(action, resource):
                self._refuse(resource.decode("utf-8", "backslashreplace"), action)
            if self._rule is not None:
                self._rule.check(((action, resource),))

    def require_each(self, needs: Iterable[tuple[Action, bytes]]) -> None:
        """Raise Forbidden unless all that one request needs is allowed."""
        needs = tuple(needs)
        for action, resource in needs:
            if not self.may(action, resource):
                self._refuse(resource.decode("utf-8", "backslashreplace"), action)
        if self._rule is not None:
            self._rule.check(needs)

    def require_read(self, key: bytes) -> None:
        """Raise Forbidden unless the key may be read."""
        self.require("read", b"kv:" + key)

    def require_together(self, keys: Iterable[bytes]) -> None:
        """Raise where one request may not read these keys together; some may be nobody's to see."""
        if self._rule is not None:
            self._rule.check([("read", _KEY + key) for key in keys])

    def require_some_key(self, action: Action) -> None:
        """Raise Forbidden unless there may be a key that `action` is allowed for."""
        caller: Caller | None = self
        while caller is not None and caller.is_limited:
            if action not in caller._of_keys:
                self._refuse("kv:*", action)
            caller = caller.within

    def require_any_key(self) -> None:
        """Raise Forbidden unless there may be a key that anything is allowed for."""
        caller: Caller | None = self
        while caller is not None and caller.is_limited:
            if not caller._of_keys:
                self._refuse("kv:*", "read")
            caller = caller.within

    def require_something(self) -> None:
        """Raise Forbidden where nothing at all is allowed."""
        caller: Caller | None = self
        while caller is not None:
            if not caller.permissions:
                self._refuse("kv:*", "read")
            caller = caller.within

    def require_for(self, command: Command) -> None:
        """Raise Forbidden unless all that `command` needs is allowed."""
        if isinstance(command, Flush):
            self.require_for_all_keys("delete")
        elif self.is_limited:
            self.require_each(command.needs())

    def require_for_all_keys(self, action: Action) -> None:
        """Raise Forbidden unless `action` is allowed for every key, of whatever slot."""
        if self.is_limited and not self.may(action, b"kv:*"):
            self._refuse("kv:*", action)

    def require_all(self, permissions: Iterable[Permission]) -> None:
        """Raise Forbidden unless everything that `permissions` allow is allowed."""
        missing = self._first_not_had(permissions)
        if missing is not None:
            self._refuse(missing.resource, missing.action)

    def _first_not_had(self, permissions: Iterable[Permission]) -> Permission | None:
        for permission in permissions:
            single = _SINGLE_ACTIONS if permission.action == "all" else (permission.action,)
            if not all(self.may(action, permission.resource.encode()) for action in single):
                return permission
        return None

    def _refuse(self, resource: str, action: Action) -> NoReturn:
        if self._on_refusal is not None:
            self._on_refusal(resource, action)
        raise Forbidden(resource, action)


def _key_span(parts: tuple[bytes, ...]) -> KeySpan | None:
    """Return where the keys lie that a pattern fits; None where it fits no key."""
    first, is_exact = parts[0], len(parts) == 1
    if first.startswith(_KEY):
        return KeySpan(first.removeprefix(_KEY), is_exact)
    return None if is_exact or not _KEY.startswith(first) else KeySpan(b"")


def _fits(parts: tuple[bytes, ...], text: bytes) -> bool:
    """Say whether `text` is the parts in order, with any text between them.

    Takes the first place of each part, which is right because a later one leaves less behind it,
    and needs no way back: no pattern makes it slow.
    """
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in parts[1:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


TRUSTED = Caller("", ROLES["admin"])
"""Everybody, where there is no authentication."""
ANONYMOUS = Caller("", ())
"""Somebody without credentials, where they are asked for."""
