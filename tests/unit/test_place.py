"""Places in the log: their printed form, whose an entry is, and how a place stands to a log."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.place import (
    NO_REIGNS,
    UNKNOWN_TAG,
    LogEnd,
    Place,
    Reigns,
    Standing,
    parse_place,
    standing,
    tag_of,
)
from synap.position import NO_HISTORY, UNASKED, Lineage, Reign

TAGS = ("aaaaaaaa", "bbbbbbbb", "cccccccc")


def history(tag: str) -> bytes:
    return bytes.fromhex(tag * 4)


def lineage(*firsts: int) -> Reigns:
    return Reigns(
        tuple(
            Reign(number, history(tag), first)
            for number, (tag, first) in enumerate(zip(TAGS, firsts, strict=False), 1)
        )
    )


@given(offset=st.integers(0, 2**64 - 1), tag=st.from_regex("[0-9a-f]{8}", fullmatch=True))
def test_place_reads_back_from_its_printed_form_and_from_a_message(offset: int, tag: str) -> None:
    place = Place(offset, tag)
    assert parse_place(str(place)) == place
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(place), type=Place) == place


@pytest.mark.parametrize(
    "text",
    ["", "7", "7-", "-aaaaaaaa", "7-aaaaaaa", "7-aaaaaaaaa", "7-AAAAAAAA", "07-aaaaaaaa",
     "+7-aaaaaaaa", " 7-aaaaaaaa", "7-aaaaaaaa\n", "7-gggggggg", '"7-aaaaaaaa"', "٧-aaaaaaaa",
     f"{2**64}-aaaaaaaa", "9" * 400 + "-aaaaaaaa"],
)  # fmt: skip
def test_text_that_is_no_place_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match='not a position such as "1042-9f2c11aa"'):
        parse_place(text)


def test_epoch_of_an_entry_is_that_of_the_reign_that_wrote_it() -> None:
    reigns = lineage(5, 9)
    assert [reigns.epoch_of(offset) for offset in (4, 5, 8, 9)] == [0, 1, 1, 2]
    assert NO_REIGNS.epoch_of(1) == 0


def test_tag_is_of_the_random_part_of_the_history() -> None:
    assert tag_of(bytes(range(1, 17))) == "01020304"
    assert tag_of(UNASKED + bytes(range(5, 17))) == "05060708"


def test_reigns_that_nobody_asked_for_have_tags_of_their_own() -> None:
    first, second = (Reign(2, UNASKED + bytes([n] * 12), 5) for n in (1, 2))
    assert Reigns((first,)).token(5) != Reigns((second,)).token(5)


@pytest.mark.parametrize(
    ("offset", "tag"),
    [(0, UNKNOWN_TAG), (1, "aaaaaaaa"), (5, "aaaaaaaa"), (6, "bbbbbbbb"), (9, "bbbbbbbb"),
     (10, "cccccccc"), (2**64 - 1, "cccccccc")],
)  # fmt: skip
def test_entry_is_of_the_last_reign_that_began_at_or_before_it(offset: int, tag: str) -> None:
    reigns = lineage(1, 6, 10)
    assert reigns.tag_of(offset) == tag
    assert reigns.token(offset) == f"{offset}-{tag}" == str(reigns.place(offset))


def test_lineage_that_was_cut_leaves_older_entries_without_a_reign() -> None:
    cut = Reigns(lineage(1, 6, 10).lineage[1:])
    assert cut.token(5) == f"5-{UNKNOWN_TAG}"
    assert not cut.holds(cut.place(5))
    assert cut.token(6) == "6-bbbbbbbb"


def test_no_reigns_name_nothing() -> None:
    assert (NO_REIGNS.token(0), NO_REIGNS.token(7)) == ("0-00000000", "7-00000000")
    assert not NO_REIGNS.holds(Place(7, UNKNOWN_TAG))
    assert NO_REIGNS.until(NO_HISTORY) is None


def test_lineage_up_to_a_reign_ends_with_it() -> None:
    reigns = lineage(1, 6, 10)
    found = reigns.until(history("bbbbbbbb"))
    assert found is not None
    assert (found.lineage, found.suffix) == (reigns.lineage[:2], "-bbbbbbbb")
    assert reigns.until(history("dddddddd")) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0-00000000", Standing.REACHED),
        ("0-dddddddd", Standing.REACHED),
        ("5-aaaaaaaa", Standing.REACHED),
        ("8-bbbbbbbb", Standing.REACHED),
        ("9-bbbbbbbb", Standing.PENDING),
        ("10-cccccccc", Standing.PENDING),
        ("99-cccccccc", Standing.PENDING),
        ("6-aaaaaaaa", Standing.LOST),
        ("99-aaaaaaaa", Standing.LOST),
        ("5-bbbbbbbb", Standing.LOST),
        ("10-bbbbbbbb", Standing.LOST),
        ("9-cccccccc", Standing.LOST),
        ("5-dddddddd", Standing.UNKNOWN),
        ("5-00000000", Standing.UNKNOWN),
    ],
)
def test_place_stands_to_a_node_that_is_behind_its_newest_reign(text: str, found: Standing) -> None:
    end = LogEnd(8, history("bbbbbbbb"))
    assert standing(parse_place(text), end, lineage(1, 6), lineage(1, 6, 10)) is found


def test_place_of_a_log_that_a_resync_is_to_bring_is_not_reached_by_the_old_one() -> None:
    end = LogEnd(8, history("aaaaaaaa"))
    newest = lineage(1, 6)
    assert standing(Place(7, "aaaaaaaa"), end, lineage(1), newest) is Standing.REACHED
    assert standing(Place(7, "bbbbbbbb"), end, lineage(1), newest) is Standing.PENDING


Log = tuple[tuple[str, ...], Lineage]
"""The tags of the reigns that wrote its entries, first to last, and its lineage."""


@st.composite
def histories(draw: st.DrawFn) -> list[Log]:
    """Return the logs that nodes had: each reign goes on from a cut of one that was there."""
    logs: list[Log] = [((), ())]
    for number in range(1, draw(st.integers(1, 6)) + 1):
        entries, reigns = draw(st.sampled_from(logs))
        kept = draw(st.integers(0, len(entries)))
        tag = f"{number:x}" * 8
        reign = Reign(number, history(tag), kept + 1)
        lived = (*(each for each in reigns if each.first_offset <= kept), reign)
        written = (*entries[:kept], *[tag] * draw(st.integers(0, 4)))
        logs.append((written, lived))
    return logs


@given(logs=histories(), data=st.data())
def test_place_is_reached_exactly_where_the_log_has_that_very_entry(
    logs: list[Log], data: st.DataObject
) -> None:
    seen, _ = data.draw(st.sampled_from(logs))
    here, reigns = data.draw(st.sampled_from(logs))
    applied = data.draw(st.integers(0, len(here)))
    offset = data.draw(st.integers(0, len(seen)))
    place = Place(offset, seen[offset - 1] if offset else UNKNOWN_TAG)
    newest = Reigns(reigns)
    end = LogEnd(applied, history(here[applied - 1]) if applied else NO_HISTORY)
    mine = newest.until(end.history) or NO_REIGNS
    found = standing(place, end, mine, newest)
    is_here = offset <= applied and here[:offset] == seen[:offset]
    assert (found is Standing.REACHED) is is_here
    if offset and not is_here:
        # What is still to come here, or can never.
        writers = [each for each in reigns if each.first_offset <= offset]
        is_due = bool(writers) and tag_of(writers[-1].history) == place.tag
        assert (found is Standing.PENDING) is is_due
        is_named = any(tag_of(each.history) == place.tag for each in reigns)
        assert (found is Standing.LOST) is (is_named and not is_due)
