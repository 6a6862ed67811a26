"""If-Match and If-None-Match on a key that is written or read.

They are looked at here, and by the log's owner once more: a command carries the version that was
seen, and does nothing where the key has another one by then.

Source: RFC 9110, section 13.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from synap.commands.keys import CONDITION_FAILED, Delete
from synap.commands.keyspace import ABSENT
from synap.commands.strings import Set, SetResult
from synap.http.api.etags import Tags, parse_tags
from synap.http.api.headers import IF_MATCH, IF_NONE_MATCH, HeaderName
from synap.place import Place
from synap.request_errors import InvalidRequest, PreconditionFailed

# How often a write is tried whose condition holds here while others write the key.
ATTEMPTS = 8

_ANY = Tags(is_any=True)


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """What a request wants of the key's version; at least one of the two.

    Attributes:
        wanted: It must have one of these; None where anything goes.
        unwanted: It must have none of these; None where anything goes.
    """

    wanted: Tags | None
    unwanted: Tags | None

    @property
    def needs_version(self) -> bool:
        """Whether the key must be looked at, here, to know what its owner is to check."""
        return not (self._wants_absent or self._wants_present)

    @property
    def _wants_absent(self) -> bool:
        return self.unwanted == _ANY and self.wanted is None

    @property
    def _wants_present(self) -> bool:
        return self.wanted == _ANY and self.unwanted is None

    def check(self, version: Place) -> None:
        """Look at the version that a key has; ABSENT where it is.

        Raises:
            PreconditionFailed: it is none that is wanted.
        """
        is_unwanted = self.unwanted is not None and self.unwanted.holds_weak(version)
        if is_unwanted or (self.wanted is not None and not self.wanted.holds_strong(version)):
            raise PreconditionFailed

    def on_set(self, command: Set, version: Place | None) -> Set:
        """Return the command with the conditions; `version` is the one that was checked, if any."""
        if version is not None:
            return msgspec.structs.replace(command, if_version=version)
        return msgspec.structs.replace(command, nx=self._wants_absent, xx=self._wants_present)


def conditions_of(headers: Mapping[HeaderName, bytes]) -> Conditions | None:
    """Return what a request's headers want; None where they want nothing.

    Raises:
        InvalidRequest: one is neither `*` nor a list of tags.
    """
    if IF_MATCH not in headers and IF_NONE_MATCH not in headers:
        return None
    return Conditions(_tags(headers, IF_MATCH), _tags(headers, IF_NONE_MATCH))


def client_has(headers: Mapping[HeaderName, bytes], version: Place) -> bool:
    """Say whether a client that reads a key has this version of it already.

    Raises:
        InvalidRequest: a header is neither `*` nor a list of tags.
        PreconditionFailed: If-Match wants another version.
    """
    wanted = _tags(headers, IF_MATCH)
    if wanted is not None:
        Conditions(wanted, None).check(version)
    unwanted = _tags(headers, IF_NONE_MATCH)
    return unwanted is not None and unwanted.holds_weak(version)


def guarded(command: Set | Delete) -> Set | Delete:
    """Return a command that needs the rights of `command` with a condition on it.

    Raises:
        InvalidRequest: it has conditions of its own.
    """
    has_own = isinstance(command, Set) and (command.nx or command.xx)
    if has_own or command.if_version is not None:
        raise InvalidRequest(
            "If-Match and If-None-Match exclude the fields 'nx', 'xx' and 'if_version'"
        )
    return msgspec.structs.replace(command, if_version=ABSENT)


def was_done(result: object) -> bool:
    """Say whether the owner found that the conditions held, by the command's result."""
    return result.written if isinstance(result, SetResult) else result != CONDITION_FAILED


def _tags(headers: Mapping[HeaderName, bytes], name: HeaderName) -> Tags | None:
    text = headers.get(name)
    return None if text is None else parse_tags(text, name.decode())
