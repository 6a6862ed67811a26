"""A command of `/api/v1/command`: it decodes its payload, acts, and gives the result payload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from synap.auth.permissions import Caller
from synap.commands.commands import Command
from synap.commands.records import Record, check_key
from synap.commands.transactions import TransactionCommand
from synap.http.api import bodies
from synap.ipc.writer_client import Done
from synap.service.node_api import NodeApi
from synap.service.node_facts import NodeFacts

Payload = TypeVar("Payload", bound=msgspec.Struct)


class CommandContext:
    """One request to the endpoint: who asks, on which conditions, and what it has seen.

    Attributes:
        api: What a client may ask of the node's data.
        facts: What the node tells of itself.
        offset: The newest offset that a command of it has seen or made; 0 before any.
        has_read: Whether a command of it has read.
    """

    __slots__ = ("_caller", "_min_replicas", "api", "facts", "has_read", "offset")

    def __init__(self, api: NodeApi, facts: NodeFacts, caller: Caller, min_replicas: int) -> None:
        self.api = api
        self.facts = facts
        self.offset = 0
        self.has_read = False
        self._caller = caller
        self._min_replicas = min_replicas

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self._caller

    async def write(self, command: Command, client_id: str | None = None) -> Any:
        """Return the result of a write; see `NodeApi.write`."""
        return self._done(
            await self.api.write(self._caller, command, self._min_replicas, client_id)
        )

    async def transact(self, command: TransactionCommand) -> Any:
        """Return the result of a transaction's command; see `NodeApi.transact`."""
        return self._done(await self.api.transact(self._caller, command, self._min_replicas))

    def look(self, key: str) -> Record | None:
        """Return what the key holds, without counting it as a get."""
        record, offset = self.api.look(self._caller, checked(key))
        self.saw(offset)
        return record

    def saw(self, offset: int) -> None:
        """Note the offset that a read has seen."""
        self.has_read = True
        self.offset = max(self.offset, offset)

    def _done(self, done: Done) -> Any:
        self.offset = max(self.offset, done.offset)
        return done.result


class NamedCommand(Generic[Payload]):
    """One command.

    Attributes:
        is_write: Whether the log's owner carries it out. Consecutive ones of a batch go to it as
            one message.
    """

    __slots__ = ("_act", "_decode", "is_write")

    def __init__(
        self,
        payload: type[Payload],
        act: Callable[[CommandContext, Payload], Awaitable[object]],
        *,
        is_write: bool,
    ) -> None:
        self._decode = bodies.decoder(payload, "payload")
        self._act = act
        self.is_write = is_write

    async def answer(self, context: CommandContext, payload: bytes) -> object:
        """Return the result payload.

        Args:
            payload: JSON text.

        Raises:
            SynapError: it can't be done.
        """
        return await self._act(context, self._decode(payload))


def checked(key: str) -> bytes:
    """Return the key's bytes.

    Raises:
        KeyInvalid: it is empty or too long.
    """
    encoded = key.encode()
    check_key(encoded)
    return encoded
