"""What can go wrong, as one tree.

    SynapClientError
    ├── Refused            a node answered, and that is its answer
    │   └── PositionLost   what this client wrote is no part of the cluster's log any more
    ├── Unreachable        no node could do it in time; it has not been done
    ├── OutcomeUnknown     no answer came in time; it may have been done
    ├── ResultNotKept      it was done once, and what it came to was too long to be kept
    ├── NotForACluster     the request is for one node
    └── WatchReset         the log does not go on from where the watcher was

`Unreachable`, `OutcomeUnknown` and `NotForACluster` are errors of httpx too, so that whatever
stands on an httpx client knows them.
"""

from __future__ import annotations

import httpx


class SynapClientError(Exception):
    """Anything that this package raises."""


class Refused(SynapClientError):
    """A node answered with an error.

    Attributes:
        status: Of HTTP.
        reason: The word for the error; empty where the answer has none.
        is_retryable: Whether the node says that the same request may be sent again.
    """

    def __init__(self, message: str, status: int, reason: str, *, is_retryable: bool) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.is_retryable = is_retryable


class PositionLost(Refused):
    """A write of this client is gone, as after a fail-over that nothing kept it through.

    It is told once. The next read is not held to it any more.
    """


class Unreachable(SynapClientError, httpx.TransportError):
    """No node could do it in time, and it has not been done."""


class OutcomeUnknown(SynapClientError, httpx.TransportError):
    """No answer came in time, and the request may have taken effect.

    Attributes:
        idempotency_key: What to send with the same request to have it take effect once all the
            same; empty where it had none.
    """

    def __init__(
        self, message: str, *, request: httpx.Request | None = None, idempotency_key: str = ""
    ) -> None:
        super().__init__(message, request=request)
        self.idempotency_key = idempotency_key


class ResultNotKept(SynapClientError):
    """It was done when it was sent before, and its result, over 64 KiB, was not kept."""


class NotForACluster(SynapClientError, httpx.UnsupportedProtocol):
    """The request is for one node, such as a change of its role: send it there."""


class WatchReset(SynapClientError):
    """The log does not go on from where the watcher was: read the keys anew.

    Attributes:
        reason: `compacted`, where the log has gone past it, or `diverged`, where it is lost.
        oldest: The first position that can be followed.
        common: The last position that the watcher and the log share; empty where none is told.
    """

    def __init__(self, reason: str, oldest: str, common: str) -> None:
        super().__init__(f"the change feed can't go on from there ({reason})")
        self.reason = reason
        self.oldest = oldest
        self.common = common
