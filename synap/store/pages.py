"""An image's pages, looked at one by one before LMDB maps them.

LMDB believes its file: a page number that leads out of it, a node that leads out of its page or a
page that two others name ends the process, or spoils the store with a later write. So what comes
from elsewhere is walked here first, by the layout below and by nothing of LMDB's. An image has no
free pages, so each of its pages must be reached, and only once.

    at   size  page                          at   size  meta (after a page's head)
     0      8  its own number                 0      4  magic
     8      2  unused                         4      4  version
    10      2  what it is: _BRANCH and so on  8      8  address, unused
    12      2  end of the nodes' places      16      8  size of the map
    14      2  begin of the nodes            24     48  tree of free pages; its first 4: page size
    12      4  of a long value: its pages    72     48  main tree
                                            120      8  last page
    at   size  node                         128      8  transaction
     0      4  length of the value, or the
               lower part of a page number   at   size  tree
     4      2  flags, or the upper part       0      4  0, but for the page size
     6      2  length of the key              4      2  flags
     8         key, then value or the page    6      2  depth
               of a long value                8   4x8  branch, leaf and long pages; entries
                                             40      8  root, or _NONE

All little-endian. Pure but for the buffer that it is given.

Source: LMDB 0.9, mdb.c, MDB_page, MDB_node, MDB_db and MDB_meta.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

_HEAD = struct.Struct("<QHHHH")
_HEAD_BYTES = _HEAD.size
_LONG_HEAD = struct.Struct("<QHHI")
_NODE = struct.Struct("<IHH")
_NODE_BYTES = _NODE.size
_PAGE_NUMBER = struct.Struct("<Q")
_TREE = struct.Struct("<IHHQQQQQ")
_META = struct.Struct(f"<IIQQ{_TREE.size}s{_TREE.size}sQQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _LONG, _META_PAGE = 1, 2, 4, 8
_LONG_VALUE, _SUBTREE = 1, 2
_NONE = (1 << 64) - 1
_PAGE_SIZES = frozenset({4096, 8192, 16384, 32768})
_FIXED_MAP = 1
# Address space that a store asks for, with room for versions that ask for more.
_MOST_MAP_BYTES = 1 << 44
# Deeper than any tree of so many pages; LMDB's own limit is 32.
_MOST_DEPTH = 32


class PagesUnsound(Exception):
    """The pages are no whole image; the message says where."""


class _Tree(NamedTuple):
    """One tree as its owner describes it."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    longs: int
    entries: int
    root: int

    @classmethod
    def decode(cls, raw: bytes) -> _Tree:
        return cls._make(_TREE.unpack(raw))


class _Meta(NamedTuple):
    """One of the two beginnings."""

    magic: int
    version: int
    address: int
    map_bytes: int
    free: bytes
    main: bytes
    last: int
    transaction: int

    @classmethod
    def decode(cls, pages: memoryview, page_at: int) -> _Meta:
        return cls._make(_META.unpack_from(pages, page_at + _HEAD_BYTES))


def check_pages(pages: memoryview, names: frozenset[bytes]) -> None:
    """Walk a whole image.

    Args:
        pages: All of the file.
        names: Of the databases that it may have.

    Raises:
        PagesUnsound: it is none that LMDB may be given.
    """
    try:
        _Walk(pages, names).run()
    except (struct.error, IndexError) as error:
        raise PagesUnsound(f"it ends inside a page: {error}") from error


class _Walk:
    """One walk: what is known of the file, and which pages were reached."""

    def __init__(self, pages: memoryview, names: frozenset[bytes]) -> None:
        self._pages = pages
        self._names = names
        self._main, self._page_bytes, self._count = _decode_meta(pages)
        self._seen = bytearray(self._count)
        self._seen[0] = self._seen[1] = 1

    def run(self) -> None:
        subtrees: list[_Tree] = []
        self._walk(self._main, subtrees)
        for tree in subtrees:
            self._walk(tree, None)
        if 0 in self._seen:
            raise PagesUnsound(f"page {self._seen.index(0)} belongs to nothing")

    def _walk(self, tree: _Tree, subtrees: list[_Tree] | None) -> None:
        """Walk one tree; of the main one, collect the trees that it names."""
        if tree.flags or tree.pad or tree.depth > _MOST_DEPTH:
            raise PagesUnsound(f"a tree is of a kind that no image has: {tree}")
        found = [0, 0, 0, 0]
        level = [] if tree.root == _NONE else [tree.root]
        for depth in range(tree.depth, 0, -1):
            below: list[int] = []
            for number in level:
                if depth > 1:
                    below += self._branch(number)
                    found[0] += 1
                else:
                    longs, entries = self._leaf(number, subtrees)
                    found[1:] = [found[1] + 1, found[2] + longs, found[3] + entries]
            level = below
        if level or found != [tree.branches, tree.leaves, tree.longs, tree.entries]:
            raise PagesUnsound(f"a tree of {tree} has {found} instead")

    def _take(self, number: int, count: int = 1) -> int:
        """Count pages as reached; return where the first one begins."""
        if number < 2 or number + count > self._count:
            raise PagesUnsound(f"page {number} is none of the {self._count}")
        if any(self._seen[number : number + count]):
            raise PagesUnsound(f"page {number} is named twice")
        self._seen[number : number + count] = b"\1" * count
        return number * self._page_bytes

    def _nodes(self, number: int, kind: int, least: int) -> tuple[memoryview, list[int]]:
        """Return a page and its nodes' places in the order of the file."""
        start = self._take(number)
        page = self._pages[start : start + self._page_bytes]
        own, _, flags, lower, upper = _HEAD.unpack_from(page)
        if own != number or flags != kind:
            raise PagesUnsound(f"page {number} says that it is page {own}, of kind {flags}")
        if lower < _HEAD_BYTES + 2 * least or lower % 2 or not lower <= upper <= len(page):
            raise PagesUnsound(f"page {number} has its nodes outside")
        places = sorted(page[_HEAD_BYTES:lower].cast("H"))
        if places[0] != upper:
            raise PagesUnsound(f"page {number} has a hole")
        places.append(len(page))
        return page, places

    def _branch(self, number: int) -> list[int]:
        """Return the pages below a branch, in no order."""
        page, places = self._nodes(number, _BRANCH, 2)
        below = []
        for place, end in pairwise(places):
            low, high, key = _NODE.unpack_from(page, place)
            if place + (_NODE_BYTES + key + 1 & ~1) != end:
                raise PagesUnsound(f"page {number} has a node that does not end at the next")
            below.append(low | high << 32)
        return below

    def _leaf(self, number: int, subtrees: list[_Tree] | None) -> tuple[int, int]:
        """Return the pages of long values at a leaf, and its number of entries."""
        page, places = self._nodes(number, _LEAF, 1)
        longs = 0
        unpack = _NODE.unpack_from
        for place, end in pairwise(places):
            value, flags, key = unpack(page, place)
            behind = place + _NODE_BYTES + key
            length = 8 if flags == _LONG_VALUE else value
            if not key or behind + length + 1 & ~1 != end:
                raise PagesUnsound(f"page {number} has a node that does not end at the next")
            if flags == _LONG_VALUE:
                longs += self._long_value(_PAGE_NUMBER.unpack_from(page, behind)[0], value)
            elif flags:
                name = bytes(page[place + _NODE_BYTES : behind])
                if flags != _SUBTREE or subtrees is None or name not in self._names:
                    raise PagesUnsound(f"page {number} has a node of another kind, {flags}")
                subtrees.append(_Tree.decode(bytes(page[behind : behind + value])))
        return longs, len(places) - 1

    def _long_value(self, number: int, length: int) -> int:
        """Return how many pages a value takes that has pages of its own."""
        if number >= self._count:
            raise PagesUnsound(f"page {number} is none of the {self._count}")
        count: int
        own, _, flags, count = _LONG_HEAD.unpack_from(self._pages, number * self._page_bytes)
        # A shorter value may have been put in the place of a longer one.
        least = (_HEAD_BYTES - 1 + length) // self._page_bytes + 1
        if (own, flags) != (number, _LONG) or count < least:
            raise PagesUnsound(f"page {number} is not the long value that it should be")
        self._take(number, count)
        return count


def _decode_meta(pages: memoryview) -> tuple[_Tree, int, int]:
    """Return the main tree, the size of a page, and the number of pages."""
    page_bytes = _Tree.decode(_Meta.decode(pages, 0).free).pad
    if page_bytes not in _PAGE_SIZES:
        raise PagesUnsound("it does not begin as one")
    metas = [_meta_at(pages, number, page_bytes) for number in (0, 1)]
    newest = max(metas, key=lambda meta: meta.transaction)
    # A reader takes the one that the transaction's number says, a writer the newer one.
    if newest is not metas[newest.transaction % 2] or metas[0].transaction == metas[1].transaction:
        raise PagesUnsound("its two beginnings contradict each other")
    count = newest.last + 1
    if count * page_bytes != len(pages):
        raise PagesUnsound(f"it has {len(pages)} bytes and says {count} pages of {page_bytes}")
    return _Tree.decode(newest.main), page_bytes, count


def _meta_at(pages: memoryview, number: int, page_bytes: int) -> _Meta:
    own, _, kind, _, _ = _HEAD.unpack_from(pages, number * page_bytes)
    meta = _Meta.decode(pages, number * page_bytes)
    if (own, kind, meta.magic, meta.version) != (number, _META_PAGE, _MAGIC, _VERSION):
        raise PagesUnsound(f"page {number} is not the beginning that it should be")
    free = _Tree.decode(meta.free)
    if meta.map_bytes > _MOST_MAP_BYTES or free.pad != page_bytes or free.flags & _FIXED_MAP:
        raise PagesUnsound(f"page {number} asks for what no image asks for")
    if free.root != _NONE or free.entries:
        raise PagesUnsound(f"page {number} names free pages, which no image has")
    return meta
