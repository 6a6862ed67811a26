"""The local channel: what HTTP workers and the log's owner say to each other.

A UNIX stream socket in the node's run directory. Each message is its length (4 bytes,
little-endian) and a MessagePack array of requests, or of answers, which one side had ready in one
turn of its event loop. Requests of one connection are taken in their order; answers name the
request by its id. Before its first answer, and where it has begun another, the owner names its
reign, which wrote what the answers after that tell of. Both ends are processes of one installation,
so the format has no version.

What asks the owner for work of its own, such as a snapshot, is framed the same way and goes over a
socket of its own (`admin_messages`, `admin_socket`), so that the writes' path knows nothing of it.

This module knows bytes and values alone; `writer_client` and `worker_connection` have the sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from synap.commands.commands import Command, Result
from synap.commands.once import Once, Replayed
from synap.commands.transactions import Executed, PendingNeeds, Queued, TransactionCommand
from synap.errors import ProtocolViolation, SynapError

_LENGTH = struct.Struct("<I")
# Above any honest message: a worker splits what it has into messages of about 1 MiB, and one
# request is bounded by server.max_request_size_mb.
MAX_MESSAGE_BYTES = 512 * 1024 * 1024


class Request(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """One command for the log's owner.

    Attributes:
        id: Number that the answer repeats; unique on its connection.
        command: What to do.
        min_replicas: Replicas that must hold it before it is answered; the configuration may ask
            for more.
    """

    id: int
    command: Command | TransactionCommand | Once
    min_replicas: int = 0


class Answer(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What became of one request, or of several plain Sets.

    Attributes:
        id: The request's; of several, the first one's.
        offset: Offset of the command's last entry, or of the log where it had none.
        result: As `Transactions.evaluate` returned it; None with an error.
        error: Class name of the error; empty where there was none.
        message: The error's message.
        count: Of how many requests with numbers that follow each other this tells; each is a Set
            that wrote its key, at an offset that follows the one before it.
    """

    id: int
    offset: int
    result: Result | Queued | Executed | PendingNeeds | Replayed = None
    error: str = ""
    message: str = ""
    count: int = 1


# No request has it: what the owner says of itself.
_OWNER_ID = 0


Message = TypeVar("Message", bound=msgspec.Struct)


class Decoder(Generic[Message]):
    """Cuts a byte stream into messages. One for each connection and direction."""

    def __init__(self, message_type: type[Message]) -> None:
        self._decode = msgspec.msgpack.Decoder(list[message_type]).decode  # type: ignore[valid-type]
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return what `data` completes, in order.

        Raises:
            ProtocolViolation: the bytes are no message; the connection is of no more use.
        """
        rest = self._rest
        if not rest and len(data) >= _LENGTH.size:
            # Mostly one whole message and nothing else: no copy.
            (length,) = _LENGTH.unpack_from(data)
            if length == len(data) - _LENGTH.size:
                return self._read(memoryview(data)[_LENGTH.size :])
        rest += data
        taken: list[Message] = []
        at = 0
        while len(rest) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(rest, at)
            if length > MAX_MESSAGE_BYTES:
                raise ProtocolViolation(f"a message of {length} bytes on the local channel")
            end = at + _LENGTH.size + length
            if len(rest) < end:
                break
            taken += self._read(memoryview(rest)[at + _LENGTH.size : end])
            at = end
        del rest[:at]
        return taken

    def _read(self, content: memoryview) -> list[Message]:
        try:
            return self._decode(content)
        except msgspec.DecodeError as error:
            raise ProtocolViolation(f"local channel: {error}") from error
        finally:
            content.release()


_encode = msgspec.msgpack.Encoder().encode
# Those of requests are among them: the commands import them.
_ERRORS = {kind.__name__: kind for kind in SynapError.kinds()}


def encode(messages: Sequence[msgspec.Struct]) -> bytes:
    """Encode `messages` as one message of the channel."""
    content = _encode(messages)
    return _LENGTH.pack(len(content)) + content


def failure(request_id: int, offset: int, error: SynapError) -> Answer:
    """Return the answer that tells `error`."""
    return Answer(request_id, offset, None, type(error).__name__, error.message)


def naming_reign(history: bytes) -> Answer:
    """Return what names the owner's reign."""
    return Answer(_OWNER_ID, 0, None, "", history.hex())


def named_reign(answer: Answer) -> bytes | None:
    """Return the history of the reign that `answer` names; None where it names none."""
    return bytes.fromhex(answer.message) if answer.id == _OWNER_ID else None


def error_of(answer: Answer) -> SynapError:
    """Return the error that `answer` tells, as an exception of the class that was raised."""
    return error_named(answer.error, answer.message)


def error_named(name: str, message: str) -> SynapError:
    """Return an error of the class `name`, or of none in particular, that says `message`."""
    kind = _ERRORS.get(name, SynapError)
    error = kind.__new__(kind)
    SynapError.__init__(error, message)
    return error
