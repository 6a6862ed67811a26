"""Which keys a watcher wants, and may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from synap.commands.glob import compile_pattern, literal_prefix
from synap.commands.key_spans import KeySpan, apart


class Filter(msgspec.Struct, frozen=True):
    """Keys: those that any of its parts fits; made by `filter_of`.

    Attributes:
        keys: These keys.
        prefixes: What begins with one of them.
        patterns: Globs, see `synap.commands.glob`.
    """

    keys: frozenset[bytes]
    prefixes: tuple[bytes, ...]
    patterns: tuple[bytes, ...]

    @property
    def is_all(self) -> bool:
        """Whether it fits every key."""
        return b"" in self.prefixes

    def test(self) -> Callable[[bytes], bool]:
        """Return what says whether a key is wanted. Its patterns are made ready here, once.

        Those of all watchers are more than `compile_pattern` remembers, and compiling one takes
        longer than any look.
        """
        keys, prefixes = self.keys, self.prefixes
        matches = [compile_pattern(pattern).fullmatch for pattern in self.patterns]

        def accepts(key: bytes) -> bool:
            return (
                key.startswith(prefixes)
                or key in keys
                or any(match(key) is not None for match in matches)
            )

        return accepts

    def spans(self) -> tuple[KeySpan, ...]:
        """Return where all wanted keys lie, apart from each other and in order."""
        return apart(
            (
                *(KeySpan(key, is_exact=True) for key in self.keys),
                *(KeySpan(prefix) for prefix in self.beginnings()),
            )
        )

    def beginnings(self) -> tuple[bytes, ...]:
        """Return what all wanted keys begin with that are not among `keys`."""
        return (*self.prefixes, *map(literal_prefix, self.patterns))


def filter_of(
    keys: Iterable[bytes] = (), prefixes: Iterable[bytes] = (), patterns: Iterable[bytes] = ()
) -> Filter:
    """Return the filter of these parts; with none of them, that of all keys."""
    found = Filter(frozenset(keys), tuple(sorted(set(prefixes))), tuple(sorted(set(patterns))))
    if found.keys or found.prefixes or found.patterns:
        return found
    return Filter(frozenset(), (b"",), ())


class Selector:
    """A filter for one kind of caller. Watchers that share it share what is made for it.

    Attributes:
        filter: What is wanted.
        is_all: Whether it takes every key.
    """

    __slots__ = ("__weakref__", "_is_wanted", "_may_read", "_spans", "filter", "is_all")

    def __init__(self, filter: Filter, may_read: Callable[[bytes], bool] | None = None) -> None:
        """
        Args:
            may_read: Tells which keys the caller may read; None for all.
        """
        self.filter = filter
        self.is_all = may_read is None and filter.is_all
        self._is_wanted = filter.test()
        self._may_read = may_read
        self._spans: tuple[KeySpan, ...] | None = None

    @property
    def spans(self) -> tuple[KeySpan, ...]:
        """Where all keys lie that it may take, as `Filter.spans`."""
        if self._spans is None:
            self._spans = self.filter.spans()
        return self._spans

    def accepts(self, key: bytes) -> bool:
        """Say whether the watchers get what happens to `key`."""
        return self._is_wanted(key) and (self._may_read is None or self._may_read(key))
