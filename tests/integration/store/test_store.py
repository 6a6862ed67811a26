"""The live store in one process: records, index, position, facts, full map."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synap.commands.key_spans import KeySpan, apart
from synap.commands.records import MAX_KEY_BYTES, NEVER, Record
from synap.errors import MemoryLimit, StoreDamaged, StoreError, StoreUnusable
from synap.frame import ACCOUNTS, DEL, FLUSH, SET, Entry
from synap.place import LogEnd
from synap.position import NO_HISTORY, START, Position
from synap.store import Applied, Store, StoreReader, WriteTransaction

MAP_BYTES = 16 * 1024 * 1024
NOW = 1_000_000
END_OF_TIME = 2**62
_NAMES = st.text("ab\xff", min_size=1, max_size=4).map(lambda text: text.encode("latin-1"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path / "store", MAP_BYTES)
    yield store
    store.close(clean=False)


@pytest.fixture
def reader(store: Store) -> StoreReader:
    return store.reader()


def change(store: Store, work: Callable[[WriteTransaction], object]) -> list[Entry]:
    """Run `work` in a transaction, commit it and return its entries."""
    transaction = store.begin()
    work(transaction)
    offset = store.applied.position.offset + len(transaction.entries)
    transaction.set_applied(Applied(Position(1, offset, 7), 1, 100 + offset, NOW))
    transaction.commit()
    return transaction.entries


def end(offset: int) -> LogEnd:
    """Return what a store shows whose log was written in no reign."""
    return LogEnd(offset, NO_HISTORY)


def put(store: Store, key: bytes, value: bytes = b"v", expiry_ms: int = NEVER) -> None:
    change(store, lambda transaction: transaction.put(key, value, expiry_ms))


def test_store_when_new_holds_nothing_at_offset_zero(store: Store, reader: StoreReader) -> None:
    assert store.applied == Applied(START, 0, 0, 0)
    assert reader.get(b"k") == (None, end(0))
    assert reader.random_key(NOW) is None
    assert reader.scan(b"", None, 10, NOW, max_visited=10).next is None


def test_put_gives_versions_that_are_the_entries_offsets(store: Store, reader: StoreReader) -> None:
    put(store, b"a")
    entries = change(store, lambda t: [t.put(b"b", b"1", NEVER), t.put(b"c", b"2", NOW)])
    assert entries == [Entry(SET, b"b", b"1"), Entry(SET, b"c", b"2", NOW)]
    assert reader.get(b"c") == (Record(3, NOW, b"2"), end(3))


@pytest.mark.parametrize("other", [None, b"b", b"elsewhere"])
def test_put_all_does_what_put_does_for_each(
    store: Store, reader: StoreReader, other: bytes | None
) -> None:
    """Also where keys have deadlines, whose index must not keep what has none any more."""
    if other is not None:
        put(store, other, b"old", NOW)
    before = store.applied.position.offset
    pairs = [(b"c", b"1"), (b"b", b"2"), (b"c", b"3")]
    versions: list[int] = []
    entries = change(store, lambda t: versions.append(t.put_all(pairs)))
    assert versions == [before + 1]
    assert entries == [Entry(SET, key, value) for key, value in pairs]
    assert reader.get(b"b")[0] == Record(before + 2, NEVER, b"2")
    assert reader.get(b"c")[0] == Record(before + 3, NEVER, b"3")
    assert store.due(NOW, 10) == ([other] if other == b"elsewhere" else [])


def test_put_all_between_other_changes_is_seen_by_those_behind_it(
    store: Store, reader: StoreReader
) -> None:
    def work(transaction: WriteTransaction) -> None:
        transaction.put(b"b", b"0", NOW)
        transaction.put_all([(b"a", b"1"), (b"b", b"2")])
        assert transaction.get(b"b") == Record(3, NEVER, b"2")
        transaction.put(b"b", b"4", NEVER)
        transaction.put_all([(b"b", b"5")])

    entries = change(store, work)
    assert [entry.value for entry in entries] == [b"0", b"1", b"2", b"4", b"5"]
    assert reader.get(b"b")[0] == Record(5, NEVER, b"5")
    assert store.due(END_OF_TIME, 10) == []


def test_transaction_sees_its_own_changes_and_readers_see_none_before_commit(
    store: Store, reader: StoreReader
) -> None:
    transaction = store.begin()
    transaction.put(b"k", b"v", NEVER)
    assert transaction.get(b"k") == Record(1, NEVER, b"v")
    assert reader.get(b"k") == (None, end(0))
    transaction.abort()
    assert reader.get(b"k") == (None, end(0))


def test_position_changes_with_the_data_and_survives_reopening(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", MAP_BYTES)
    put(store, b"k")
    store.close(clean=False)
    store = Store.open(tmp_path / "store", MAP_BYTES)
    assert store.applied == Applied(Position(1, 1, 7), 1, 101, NOW)
    assert store.reader().applied() == store.applied
    assert store.reader().get(b"k") == (Record(1, NEVER, b"v"), end(1))
    store.close(clean=False)


def test_abort_leaves_the_next_version_and_the_position_as_they_were(store: Store) -> None:
    transaction = store.begin()
    transaction.put(b"k", b"v", NEVER)
    transaction.set_applied(Applied(Position(1, 1, 7), 1, 1, NOW))
    transaction.abort()
    assert store.applied.position == START
    assert [entry.key for entry in change(store, lambda t: t.put(b"j", b"v", NEVER))] == [b"j"]
    assert store.applied.position.offset == 1


def test_transaction_after_its_end_can_be_aborted_but_not_used(store: Store) -> None:
    transaction = store.begin()
    transaction.commit()
    transaction.abort()
    with pytest.raises(StoreError):
        transaction.put(b"k", b"v", NEVER)


def test_remove_of_an_absent_key_is_no_entry(store: Store) -> None:
    put(store, b"k")
    entries = change(store, lambda t: [t.remove(b"absent"), t.remove(b"k"), t.remove(b"k")])
    assert entries == [Entry(DEL, b"k")]


def test_clear_is_one_entry_and_counts_what_has_not_expired(
    store: Store, reader: StoreReader
) -> None:
    put(store, b"a")
    put(store, b"b", expiry_ms=NOW)
    counted: list[int] = []
    assert change(store, lambda t: counted.append(t.clear(NOW))) == [Entry(FLUSH)]
    assert counted == [1]
    assert reader.count(0) == 0
    assert store.due(END_OF_TIME, 10) == []


def test_clear_of_an_empty_store_is_no_entry(store: Store) -> None:
    assert change(store, lambda t: t.clear(NOW)) == []


def test_key_of_503_bytes_with_expiry_is_kept_and_a_longer_one_refused(
    store: Store, reader: StoreReader
) -> None:
    longest = b"k" * MAX_KEY_BYTES
    put(store, longest, expiry_ms=NOW)
    assert store.due(NOW, 10) == [longest]
    assert reader.get(longest)[0] == Record(1, NOW, b"v")
    transaction = store.begin()
    with pytest.raises(StoreError):
        transaction.put(longest + b"k", b"v", NOW)
    transaction.abort()


@pytest.mark.parametrize(
    ("work", "due"),
    [
        (lambda t: t.put(b"k", b"new", NEVER), []),
        (lambda t: t.put(b"k", b"new", NOW), [b"k"]),
        (lambda t: t.put(b"k", b"new", NOW + 5), [b"k"]),
        (lambda t: t.remove(b"k"), []),
        (lambda t: [t.put(b"k", b"1", NOW + 1), t.put(b"k", b"2", NOW + 2)], [b"k"]),
        (lambda t: [t.remove(b"k"), t.put(b"k", b"1", NOW + 1)], [b"k"]),
        (lambda t: [t.get(b"k"), t.put(b"j", b"1", NEVER)], [b"k"]),
        (lambda t: [t.get(b"k"), t.put(b"k", b"1", NOW + 1), t.put(b"k", b"2", NEVER)], []),
        (lambda t: [t.get(b"k"), t.remove(b"k"), t.put(b"k", b"1", NOW)], [b"k"]),
        (lambda t: [t.get(b"k"), t.clear(NOW), t.put(b"k", b"1", NOW)], [b"k"]),
        (lambda t: t.apply([Entry(SET, b"k", b"1")], 2), []),
        (lambda t: t.apply([Entry(DEL, b"k"), Entry(SET, b"j", b"1", NOW)], 2), [b"j"]),
        (lambda t: t.apply([Entry(FLUSH)], 2), []),
    ],
)
def test_expiry_index_stays_exact(
    store: Store, work: Callable[[WriteTransaction], object], due: list[bytes]
) -> None:
    put(store, b"k", expiry_ms=NOW)
    change(store, work)
    assert store.due(END_OF_TIME, 10) == due


def test_due_gives_the_longest_expired_first_up_to_the_limit(store: Store) -> None:
    for key, expiry_ms in [(b"c", 300), (b"a", 256), (b"b", 255), (b"d", 301)]:
        put(store, key, expiry_ms=expiry_ms)
    assert store.due(300, 10) == [b"b", b"a", b"c"]
    assert store.due(300, 2) == [b"b", b"a"]


def test_apply_leads_to_the_digest_of_the_store_that_wrote_the_entries(
    tmp_path: Path, store: Store, reader: StoreReader
) -> None:
    put(store, b"gone", expiry_ms=NOW)
    entries = [Entry(SET, b"gone", b"v", NOW)]
    entries += change(store, lambda t: [t.clear(NOW), t.put(b"a", b"1", NOW), t.remove(b"a")])
    entries += change(store, lambda t: t.put(b"b", b"2", NOW))
    replica = Store.create(tmp_path / "replica", MAP_BYTES)
    transaction = replica.begin()
    transaction.apply(entries, 1)
    transaction.set_applied(store.applied)
    transaction.commit()
    assert transaction.entries == []
    assert replica.reader().digest() == reader.digest()
    assert reader.digest()[:2] == (5, 1)
    replica.close(clean=False)


def test_apply_keeps_accounts_apart_from_keys(store: Store, reader: StoreReader) -> None:
    put(store, b"k", expiry_ms=NOW)
    before = reader.digest()
    account = Entry(SET, b"k", b"account", NOW, ACCOUNTS)
    change(store, lambda t: t.apply([account], 2))
    assert reader.get(b"k")[0] == Record(1, NOW, b"v")
    assert reader.count(0) == 1
    assert store.due(END_OF_TIME, 10) == [b"k"]
    assert reader.digest()[2] != before[2]
    change(store, lambda t: t.apply([Entry(DEL, b"k", space=ACCOUNTS)], 3))
    assert reader.digest()[2] == before[2]


def test_accounts_are_collected_as_entries_of_their_own_space(
    store: Store, reader: StoreReader
) -> None:
    put(store, b"user/ann", b"a key")

    def write(transaction: WriteTransaction) -> None:
        transaction.put_account(b"user/ann", b"1")
        transaction.put_account(b"user/bob", b"2")
        transaction.remove_account(b"user/cid")

    entries = change(store, write)
    assert [(entry.operation, entry.key, entry.space) for entry in entries] == [
        (SET, b"user/ann", ACCOUNTS),
        (SET, b"user/bob", ACCOUNTS),
    ]
    ann, nobody = reader.get_accounts([b"user/ann", b"user/cid"])
    assert ann is not None
    assert (ann.value, ann.version, nobody) == (b"1", 2, None)
    removed = change(store, lambda t: t.remove_account(b"user/ann"))
    assert removed == [Entry(DEL, b"user/ann", space=ACCOUNTS)]
    listed, seen = reader.list_accounts(b"user/")
    assert ([key for key, _ in listed], seen) == ([b"user/bob"], end(4))
    change(store, lambda t: t.clear(NOW))
    assert [key for key, _ in reader.list_accounts(b"")[0]] == [b"user/bob"]


def test_digest_differs_where_only_a_version_or_a_deadline_does(
    store: Store, reader: StoreReader
) -> None:
    digests = set()
    for expiry_ms in (NEVER, NEVER, NOW):
        put(store, b"k", b"same", expiry_ms)
        digests.add(reader.digest()[2])
    assert len(digests) == 3


def test_get_many_reads_what_is_live_at_one_offset(store: Store, reader: StoreReader) -> None:
    put(store, b"a", b"1")
    put(store, b"b", b"2", NOW)
    assert reader.get_many([b"b", b"x", b"a"], NOW - 1) == ([b"2", None, b"1"], end(2))
    assert reader.get_many([b"b", b"x", b"a"], NOW) == ([None, None, b"1"], end(2))


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_scan_page_by_page_gives_every_live_key_once(
    store: Store, reader: StoreReader, limit: int
) -> None:
    names = [b"k%02d" % number for number in range(20)]
    change(store, lambda t: [t.put(k, b"", NOW if k < b"k05" else NEVER) for k in names])
    put(store, b"other")
    found: list[bytes] = []
    cursor: bytes | None = None
    while (page := reader.scan(b"k", cursor, limit, NOW, max_visited=7)).next is not None:
        found += page.keys
        cursor = page.next
    assert found + page.keys == names[5:]
    assert page.end == end(21)


def test_scan_looks_at_no_more_keys_than_it_may(store: Store, reader: StoreReader) -> None:
    change(store, lambda t: [t.put(key, b"", NOW) for key in (b"a", b"b", b"c")])
    page = reader.scan(b"", None, 9, NOW, max_visited=2)
    assert (page.keys, page.next) == ([], b"b")
    assert reader.scan(b"", b"b", 9, NOW, max_visited=2).next is None


def test_scan_and_random_key_show_only_what_is_accepted(store: Store, reader: StoreReader) -> None:
    for key in (b"a1", b"a2", b"b1", b"b2"):
        put(store, key)
    page = reader.scan(b"", None, 1, NOW, max_visited=9, accepts=lambda key: key > b"a2")
    assert (page.keys, page.next) == ([b"b1"], b"b1")
    drawn = {reader.random_key(NOW, accepts=lambda key: key == b"b2") for _ in range(20)}
    assert drawn == {b"b2"}
    assert reader.random_key(NOW, accepts=lambda key: False) is None


def test_scan_and_random_key_visit_only_the_spans(store: Store, reader: StoreReader) -> None:
    """Keys around them make no difference to what is looked at, so that no time tells of them."""
    shown = [b"a", b"m1", b"m2", b"m3", b"z1"]
    spans = (KeySpan(b"a", is_exact=True), KeySpan(b"m"), KeySpan(b"q"), KeySpan(b"z"))
    visited: list[bytes] = []

    def accepts(key: bytes) -> bool:
        visited.append(key)
        return True

    def walk() -> list[bytes]:
        visited.clear()
        found, after = [], None
        while True:
            page = reader.scan(b"", after, 2, NOW, max_visited=2, spans=spans, accepts=accepts)
            found += page.keys
            after = page.next
            if after is None:
                break
        assert found == shown
        assert {reader.random_key(NOW, spans=spans, accepts=accepts) for _ in range(200)} == set(
            shown
        )
        return sorted(set(visited))

    change(store, lambda t: [t.put(key, b"", NEVER) for key in shown])
    assert walk() == shown
    hidden = [b"%c%d" % (letter, each) for letter in b"abkly" for each in range(50)]
    change(store, lambda t: [t.put(key, b"", NEVER) for key in hidden])
    assert walk() == shown


@pytest.mark.parametrize("spans", [(), (KeySpan(b"q"),), (KeySpan(b"b", is_exact=True),)])
def test_scan_and_random_key_of_empty_spans_find_nothing(
    store: Store, reader: StoreReader, spans: tuple[KeySpan, ...]
) -> None:
    change(store, lambda t: [t.put(key, b"", NEVER) for key in (b"a", b"ba", b"z")])
    page = reader.scan(b"", None, 9, NOW, max_visited=1, spans=spans)
    assert (page.keys, page.next) == ([], None)
    assert reader.random_key(NOW, spans=spans) is None


@given(
    keys=st.sets(_NAMES, max_size=12),
    spans=st.lists(st.builds(KeySpan, _NAMES, st.booleans()), max_size=5),
    prefix=_NAMES | st.just(b""),
    limit=st.integers(1, 3),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_scan_of_spans_gives_each_of_their_keys_once_and_in_order(
    store: Store, reader: StoreReader, keys: set[bytes], spans: list[KeySpan], prefix: bytes,
    limit: int,
) -> None:  # fmt: skip
    change(store, lambda t: (t.clear(NOW), [t.put(key, b"", NEVER) for key in keys]))
    found, after = [], None
    while True:
        page = reader.scan(prefix, after, limit, NOW, max_visited=3, spans=apart(spans))
        found += page.keys
        after = page.next
        if after is None:
            break
    within = [key for key in keys if any(span.holds(key) for span in spans)]
    assert found == sorted(key for key in within if key.startswith(prefix))


_PATHS = st.text("ab:", min_size=1, max_size=6).map(str.encode)


@given(
    live=st.sets(_PATHS, max_size=12),
    expired=st.sets(_PATHS, max_size=6),
    spans=st.lists(st.builds(KeySpan, _PATHS, st.booleans()), max_size=4) | st.just([KeySpan(b"")]),
    prefix=_PATHS | st.just(b""),
    limit=st.integers(1, 3),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_level_of_a_tree_is_its_keys_and_folders_once_and_in_order(
    store: Store, reader: StoreReader, live: set[bytes], expired: set[bytes],
    spans: list[KeySpan], prefix: bytes, limit: int,
) -> None:  # fmt: skip
    change(store, lambda t: (t.clear(NOW), [t.put(key, b"", NOW) for key in expired]))
    change(store, lambda t: [t.put(key, b"", NEVER) for key in live])
    keys, folders, after = [], [], None
    while True:
        page = reader.scan_level(prefix, b":", after, limit, NOW, max_visited=2, spans=apart(spans))
        keys, folders, after = keys + page.keys, folders + page.folders, page.next
        if after is None:
            break
    seen = [key for key in live if any(span.holds(key) for span in spans)]
    rest = sorted(key.removeprefix(prefix) for key in seen if key.startswith(prefix))
    assert keys == [prefix + name for name in rest if b":" not in name]
    inner = dict.fromkeys(name.partition(b":")[0] for name in rest if b":" in name)
    assert folders == sorted(prefix + name + b":" for name in inner)


def test_folder_of_the_longest_name_is_passed_by_its_cursor(
    store: Store, reader: StoreReader
) -> None:
    folder = b"f" * (MAX_KEY_BYTES - 1) + b":"
    change(store, lambda t: [t.put(key, b"", NEVER) for key in (folder, b"g")])
    page = reader.scan_level(b"", b":", None, 1, NOW, max_visited=9)
    assert (page.folders, page.next) == ([folder], folder + b"\xff")
    after = reader.scan_level(b"", b":", page.next, 1, NOW, max_visited=9)
    assert (after.keys, after.folders) == ([b"g"], [])


def test_scan_goes_on_behind_a_cursor_whose_key_is_gone(store: Store, reader: StoreReader) -> None:
    change(store, lambda t: [t.put(key, b"", NEVER) for key in (b"a", b"b", b"c")])
    assert reader.scan(b"", b"b", 9, NOW, max_visited=9).keys == [b"c"]
    change(store, lambda t: t.remove(b"b"))
    assert reader.scan(b"", b"b", 9, NOW, max_visited=9).keys == [b"c"]


def test_scan_with_a_cursor_longer_than_any_key_goes_on_behind_it(
    store: Store, reader: StoreReader
) -> None:
    longest = b"b" * MAX_KEY_BYTES
    change(store, lambda t: [t.put(key, b"", NEVER) for key in (b"a", longest, b"c")])
    assert reader.scan(b"", b"b" * 9000, 9, NOW, max_visited=9).keys == [b"c"]
    assert reader.scan(b"b" * 9000, None, 9, NOW, max_visited=9).keys == []


def test_scan_by_pattern_visits_only_what_its_beginning_allows(
    store: Store, reader: StoreReader
) -> None:
    names = [b"a%d" % number for number in range(9)] + [b"user:1", b"user:x"]
    change(store, lambda t: [t.put(key, b"", NEVER) for key in names])
    page = reader.scan(b"", None, 9, NOW, pattern=b"user:[0-9]", max_visited=2)
    assert (page.keys, page.next) == ([b"user:1"], None)
    assert reader.scan(b"a", None, 9, NOW, pattern=b"user:*", max_visited=20).keys == []


def test_random_key_reaches_every_live_key_and_no_expired_one(
    store: Store, reader: StoreReader
) -> None:
    live = [b"a", b"ab", b"abc", b"b\xff", b"b\xff\xff", b"\xff"]
    change(store, lambda t: [t.put(key, b"", NEVER) for key in live])
    change(store, lambda t: [t.put(b"x%d" % number, b"", NOW) for number in range(5)])
    assert {reader.random_key(NOW) for _ in range(500)} == set(live)


def test_random_key_among_many_expired_finds_the_live_one(
    store: Store, reader: StoreReader
) -> None:
    change(store, lambda t: [t.put(b"%d" % number, b"", NOW) for number in range(1000)])
    assert reader.random_key(NOW) is None
    put(store, b"555")
    assert reader.random_key(NOW) == b"555"


def test_map_when_full_refuses_the_write_and_goes_on_when_there_is_room(
    store: Store, reader: StoreReader
) -> None:
    chunk = bytes(1024 * 1024)
    stored = 0
    with suppress(MemoryLimit):
        while stored < MAP_BYTES // len(chunk):
            put(store, b"k%d" % stored, chunk)
            stored += 1
    assert 5 < stored < MAP_BYTES // len(chunk)
    assert reader.digest()[:2] == (stored, stored)
    assert reader.get(b"k0") == (Record(1, NEVER, chunk), end(stored))
    change(store, lambda t: t.remove(b"k0"))
    put(store, b"small", b"v")
    assert reader.get(b"small")[0] == Record(stored + 2, NEVER, b"v")


def test_put_all_into_too_small_a_map_changes_nothing(store: Store, reader: StoreReader) -> None:
    chunk = bytes(1024 * 1024)
    transaction = store.begin()
    with pytest.raises(MemoryLimit):
        transaction.put_all([(b"k%d" % number, chunk) for number in range(MAP_BYTES // len(chunk))])
    transaction.abort()
    assert reader.get(b"k0") == (None, end(0))
    put(store, b"small")
    assert reader.get(b"small")[0] == Record(1, NEVER, b"v")


def test_facts_count_pages_keys_and_readers(store: Store, reader: StoreReader) -> None:
    empty = store.facts()
    change(store, lambda t: [t.put(b"k%d" % n, bytes(10_000), NOW) for n in range(100)])
    full = store.facts()
    assert (full.keys, full.map_bytes) == (100, MAP_BYTES)
    assert (full.readers, full.oldest_reader_age) == (0, 0)
    assert empty.used_bytes < 100_000 < 1_000_000 < full.used_bytes < full.file_bytes
    assert full.file_bytes == full.used_bytes + full.free_bytes
    assert reader.used_bytes() == full.used_bytes
    change(store, lambda t: t.clear(NOW))
    assert store.facts().free_bytes > 1_000_000


def test_open_of_nothing_or_of_garbage_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no live store"):
        Store.open(tmp_path, MAP_BYTES)
    Store.create(tmp_path, MAP_BYTES).close(clean=True)
    with (tmp_path / "00000001" / "data.mdb").open("r+b") as file:
        file.write(b"garbage" * 2000)
    with pytest.raises(StoreDamaged, match="can't be opened"):
        Store.open(tmp_path, MAP_BYTES)
    with pytest.raises(StoreUnusable, match="can't be opened"):
        StoreReader.open(tmp_path)


@pytest.mark.parametrize("deadline", [NEVER, END_OF_TIME])
@pytest.mark.parametrize("count", [1, 40])
def test_apply_sets_does_what_apply_does(
    store: Store, tmp_path: Path, deadline: int, count: int
) -> None:
    other = Store.create(tmp_path / "other", MAP_BYTES)
    pairs = [(b"%d" % (each % 30), b"v%d" % each) for each in range(count)]
    for each in (store, other):
        change(each, lambda t: t.put(b"0", b"before", deadline))
    change(store, lambda t: t.apply_sets(pairs, 2))
    change(other, lambda t: t.apply([Entry(SET, key, value) for key, value in pairs], 2))
    assert store.reader().digest() == other.reader().digest()
    assert store.facts().expiring == other.facts().expiring == 0
    other.close(clean=False)
