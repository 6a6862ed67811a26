"""`synap diff A B`: which keys two nodes hold differently, while both go on.

Ranges of keys are compared by a sum of each node, and where these differ, halved until single keys
are left: neither the nodes nor this command ever hold more than a slice. What a write has changed
on one side only is no difference: a key counts where both nodes were seen at one offset.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from workers.cli.http_call import CallFailed, get
from workers.cli.options import node_url
from workers.process import EXIT_FAILED

# Told from 1, which says that a node does not answer.
EXIT_DIFFER = 4
# Nodes that have no state in common.
EXIT_APART = 5

_SPACES = {0: "key", 1: "account", 2: "request"}
_RANGE_RECORDS = 4096
# A range with so few records on both sides is gone through one by one.
_FEW_RECORDS = 8
_LOOK_SECONDS = 0.05


class Range(NamedTuple):
    """A node's digest of a range; see `synap.store.range_digest.RangeDigest`."""

    offset: int
    history: str
    records: int
    sum: str
    last: bytes
    is_whole: bool


class Apart(Exception):
    """The nodes do not come to one offset of one history."""


class Side:
    """One node, as it is asked."""

    def __init__(self, url: str, ask: Callable[[str, str], dict[str, Any]] = get) -> None:
        """
        Args:
            ask: Sends a GET, given the URL and the path.
        """
        self.url = url.rstrip("/")
        self._ask = ask

    def range(self, space: int, after: bytes, until: bytes | None, limit: int) -> Range:
        path = f"/digest/range?space={space}&after={_text_of(after)}&limit={limit}"
        if until is not None:
            path += f"&until={_text_of(until)}"
        told = self._ask(self.url, path)
        return Range(
            told["offset"], told["history"], told["records"], told["sum"],
            _bytes_of(told["last"]), told["is_whole"],
        )  # fmt: skip

    def one(self, space: int, key: bytes) -> Range:
        """Return the digest of a single key."""
        # The longest key that is less: one that ends before the last byte, or with one less.
        stem, last = key[:-1], key[-1]
        after = stem + bytes([last - 1]) + b"\xff" * 511 if last else stem
        return self.range(space, after[:511], key, 2)


class Comparison:
    """One comparison of two nodes.

    Attributes:
        records: Records of the first node that were compared.
    """

    def __init__(self, left: Side, right: Side, wait_seconds: float) -> None:
        """
        Args:
            wait_seconds: How long a node may take to come to the other's offset.
        """
        self._left = left
        self._right = right
        self._wait_seconds = wait_seconds
        self.records = 0

    def differences(self) -> Iterator[tuple[int, bytes, str]]:
        """Yield space and key of each difference, and where it is missing, or nothing.

        Raises:
            Apart: the nodes do not come to one offset.
            CallFailed: one does not answer.
        """
        for space in _SPACES:
            after: bytes | None = b""
            while after is not None:
                left = self._left.range(space, after, None, _RANGE_RECORDS)
                right = self._right.range(space, after, None, _RANGE_RECORDS)
                until = min(
                    (each.last for each in (left, right) if not each.is_whole), default=None
                )
                self.records += left.records
                yield from self._compare(space, after, until, _RANGE_RECORDS)
                after = until

    def _compare(
        self, space: int, after: bytes, until: bytes | None, limit: int
    ) -> Iterator[tuple[int, bytes, str]]:
        left = self._left.range(space, after, until, 2 * limit)
        right = self._right.range(space, after, until, 2 * limit)
        if left[2:] == right[2:]:
            return
        if max(left.records, right.records) <= _FEW_RECORDS:
            for key in sorted(self._keys(space, after, until)):
                yield from self._judge(space, key)
            return
        more = self._left if left.records >= right.records else self._right
        half = more.range(space, after, until, max(left.records, right.records) // 2).last
        yield from self._compare(space, after, half, limit)
        yield from self._compare(space, half, until, limit)

    def _keys(self, space: int, after: bytes, until: bytes | None) -> set[bytes]:
        keys: set[bytes] = set()
        for side in (self._left, self._right):
            at = after
            while (found := side.range(space, at, until, 1)).records:
                keys.add(found.last)
                at = found.last
        return keys

    def _judge(self, space: int, key: bytes) -> Iterator[tuple[int, bytes, str]]:
        """Yield the key where it differs at one offset.

        What one side has before and after the other was looked at, it had at the other's offset
        too, where that lies between.
        """
        deadline = time.monotonic() + self._wait_seconds
        while True:
            before = self._left.one(space, key)
            between = self._right.one(space, key)
            behind = self._left.one(space, key)
            if between.sum in (before.sum, behind.sum):
                return
            is_one_history = before.history == between.history == behind.history
            is_between = before.offset <= between.offset <= behind.offset
            if before.sum == behind.sum and is_one_history and is_between:
                yield space, key, self._missing(before, between)
                return
            if time.monotonic() > deadline:
                raise Apart(
                    f"{self._left.url} is at offset {behind.offset}, {self._right.url} at "
                    f"{between.offset}"
                    + ("" if is_one_history else ", and their last reigns differ")
                )
            time.sleep(_LOOK_SECONDS)

    def _missing(self, left: Range, right: Range) -> str:
        if not left.records:
            return self._left.url
        return self._right.url if not right.records else ""


def diff_command(
    first: Annotated[
        str, typer.Argument(metavar="A", parser=node_url, help="A node's HTTP address.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", parser=node_url, help="The other's.")],
    most: Annotated[int, typer.Option("--most", min=1, help="Stop after so many keys.")] = 1000,
    wait: Annotated[
        float,
        typer.Option("--wait", min=0, help="Seconds for a node to come to the other's offset."),
    ] = 10.0,
) -> None:
    """Name the keys that nodes A and B hold differently at one offset.

    Exits with 0 where none differs, 4 where some do, 5 where the nodes do not come to one offset of
    one history, 1 where one does not answer.
    """
    console = Console(stderr=True)
    comparison = Comparison(Side(first), Side(second), wait)
    count = 0
    try:
        with console.status("comparing") as status:
            for space, key, missing in comparison.differences():
                status.update(f"{comparison.records} records compared, {count + 1} differ")
                where = f"missing at {missing}" if missing else "differs"
                typer.echo(f"{_SPACES[space]} {key.decode(errors='backslashreplace')}: {where}")
                count += 1
                if count == most:
                    typer.echo(f"stopped after {count} keys", err=True)
                    break
    except Apart as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_APART) from error
    except CallFailed as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(f"{comparison.records} records compared, {count} differ", err=True)
    if count:
        raise typer.Exit(EXIT_DIFFER)


def _text_of(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def _bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
