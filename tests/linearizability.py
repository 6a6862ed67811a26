"""Whether a history of concurrent operations on one key could have happened one at a time.

After Wing and Gong ("Testing and verifying concurrent objects", 1993), with the memo of states that
were reached by the same set of operations (Lowe, 2017), as porcupine has it: try each operation
that may come first, by time, and go back where none fits. Keys are independent, so a history is
checked key by key.

An operation whose outcome is unknown may take effect at any time after its call, or never.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

GET = "get"
SET = "set"
INCREMENT = "increment"
CREATE = "create"
SWAP = "swap"
DELETE = "delete"

FOREVER = float("inf")

UNTOLD = -1
"""The version of a write whose answer was lost; a GET that tells one settles what it was."""

State = tuple[int | None, int]
"""A key's value, None where it is absent, and its version, 0 where it is absent."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call and what came of it.

    Attributes:
        key: What it was about.
        kind: GET, SET, INCREMENT (by one), CREATE (where absent), SWAP (where the version is
            `expected`) or DELETE.
        called: When it was sent.
        returned: When its answer came; FOREVER for an unknown outcome.
        value: What it writes.
        expected: The version that a SWAP wants.
        result: What it returned: the value for GET and INCREMENT, None for an absent key; whether
            it wrote, for CREATE and SWAP; not looked at where the outcome is unknown.
        version: Of the value that it returned or wrote; None where that was not told.
    """

    key: str
    kind: str
    called: float
    returned: float
    value: int | None = None
    expected: int = 0
    result: int | bool | None = None
    version: int | None = None

    @property
    def is_known(self) -> bool:
        return self.returned < FOREVER


def violations(history: Iterable[Operation]) -> list[str]:
    """Return the keys whose operations fit no order, in the order of their first calls."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in sorted(history, key=lambda each: each.called):
        by_key[operation.key].append(operation)
    return [key for key, operations in by_key.items() if not is_linearizable(operations)]


def is_linearizable(operations: list[Operation]) -> bool:
    """Say whether the operations of one key fit some order.

    Args:
        operations: By the time of their calls.
    """
    # What is done is a bit set; the state that it led to is part of the memo.
    needed = sum(1 << n for n, operation in enumerate(operations) if operation.is_known)
    start: tuple[int, State] = (0, (None, 0))
    seen = {start}
    stack = [start]
    while stack:
        done, state = stack.pop()
        if done & needed == needed:
            return True
        for number in _next(operations, done):
            for following in apply(operations[number], state):
                reached = (done | 1 << number, following)
                if reached not in seen:
                    seen.add(reached)
                    stack.append(reached)
    return False


def _next(operations: list[Operation], done: int) -> list[int]:
    """Return what may come next: none of the others had returned when it was called."""
    found: list[int] = []
    first_return = FOREVER
    first = (~done & (done + 1)).bit_length() - 1
    for number in range(first, len(operations)):
        operation = operations[number]
        if operation.called > first_return:
            break
        if not done >> number & 1:
            found.append(number)
            first_return = min(first_return, operation.returned)
    return [number for number in found if operations[number].called <= first_return]


def apply(operation: Operation, state: State) -> list[State]:
    """Return the state behind an operation that takes effect now; none where it does not fit."""
    value, version = state
    kind, result = operation.kind, operation.result
    if kind == GET:
        told = version if operation.version is None else operation.version
        return [(value, told)] if result == value and version in (told, UNTOLD) else []
    written: int | None = operation.value
    does_write = True
    if kind == INCREMENT:
        written = (value or 0) + 1
    elif kind == CREATE:
        does_write = value is None
    elif kind == SWAP and version == UNTOLD and operation.is_known:
        does_write = bool(result)
    elif kind == SWAP:
        does_write = value is not None and version == operation.expected
    elif kind == DELETE:
        written = None
    if operation.is_known:
        if kind in (CREATE, SWAP) and result is not does_write:
            return []
        if kind == INCREMENT and result != written:
            return []
    if not does_write:
        return [state]
    if written is None:
        return [(None, 0)]
    return _versions(operation, written, version)


def _versions(operation: Operation, written: int, before: int) -> list[State]:
    if operation.version is not None:
        # Versions are offsets of a log: they rise.
        return [(written, operation.version)] if operation.version > before else []
    return [(written, UNTOLD)]
