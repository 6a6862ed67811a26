"""What the resources of users and API keys share: whose account it is, and how it is changed."""

from __future__ import annotations

from collections.abc import Callable

from synap.auth.permissions import ANONYMOUS, TRUSTED, Caller
from synap.commands.accounts import ChangeAccounts
from synap.http.api.request import Request
from synap.http.api.resource import Resource
from synap.ipc.writer_client import Done
from synap.request_errors import AccountConflict
from synap.service.account_directory import AccountDirectory
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

# Changes of one account at the same time are rare, and one of them always gets through.
_TRIES = 5


class AccountResource(Resource):
    """Base of the resources below `/auth/`."""

    def __init__(self, node: LocalNode, api: NodeApi, directory: AccountDirectory) -> None:
        super().__init__(node, api)
        self._directory = directory

    async def change(self, req: Request, plan: Callable[[], ChangeAccounts]) -> Done:
        """Change accounts as `plan` says, which checks the caller's rights.

        Args:
            req: Says on which conditions.
            plan: Works the change out from the accounts as they are; called again where they were
                changed meanwhile.

        Raises:
            AccountConflict: they were changed again and again.
            WriteRefused: as `NodeApi.write`.
        """
        for _ in range(_TRIES):
            done = await self.write(req, plan(), TRUSTED)
            if done.result:
                return done
        raise AccountConflict

    def username_of(self, caller: Caller) -> str:
        """Return the name of the caller's own account.

        Raises:
            Forbidden: the caller has none.
        """
        if caller is ANONYMOUS:
            caller.require("read", b"auth:me")
        return caller.name or self._directory.root_name


def is_by_password(caller: Caller) -> bool:
    """Say whether the caller is the user, and not one of the user's keys."""
    return caller.within is None
