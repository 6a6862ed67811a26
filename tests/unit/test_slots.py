"""Tags, slots, and which cluster has which."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

import pytest

from synap.slots import SLOTS, Owner, moves, owners_of, ranges, slot_of, tag_of

LINES = ("0-340 a http://a:1", "341-681 b http://b:1", "682-1023 c http://c:1")


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("plain", "plain"), ("{tag}rest", "tag"), ("x{tag}y{other}", "tag"), ("{}x", "{}x"),
        ("{}{a}", "{}{a}"), ("a{b", "a{b"), ("a}b{c}", "c"), ("ü{ö}", "ö"), ("{{a}b}", "{a"),
        ("a/b%2F", "a/b%2F"), ("{t\nu}v", "t\nu"),
    ],
)  # fmt: skip
def test_tag_is_what_stands_in_the_first_braces(key, tag):
    assert tag_of(key.encode()) == tag.encode()
    assert slot_of(key.encode()) == crc32(tag.encode()) % SLOTS


def test_keys_of_one_tag_lie_together():
    assert len({slot_of(b"{user:7}%d" % number) for number in range(100)}) == 1


def test_lines_name_the_owner_of_each_slot():
    owners = owners_of(LINES)
    assert Counter(owner.cluster for owner in owners) == {"a": 341, "b": 341, "c": 342}
    assert owners[341] == Owner("b", "http://b:1")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (LINES[:2], "682-1023 of the 1024 slots are not named"),
        ((*LINES, "7 a http://a:1"), "slot 7 is named twice"),
        (("0-1024 a http://a:1",), "slots go from 0"),
        (("5-4 a http://a:1",), "slots go from 0"),
        (("all a http://a:1",), "slots are named as"),
        (("0-1023 a",), "slots are named as"),
    ],
)
def test_lines_that_name_no_whole_are_refused(lines, why):
    with pytest.raises(ValueError, match=why):
        owners_of(lines)


def test_new_cluster_takes_the_fewest_slots_and_as_many_from_each():
    owners = [owner.cluster for owner in owners_of(LINES)]
    found = moves(owners, ["a", "b", "c", "d"])
    assert {cluster for _, cluster in found} == {"d"}
    assert len(found) == SLOTS // 4
    for slot, cluster in found:
        owners[slot] = cluster
    assert set(Counter(owners).values()) == {256}


def test_cluster_that_is_to_go_gives_all_its_slots():
    owners = [owner.cluster for owner in owners_of(LINES)]
    found = moves(owners, ["a", "b"])
    assert len(found) == 342
    for slot, cluster in found:
        owners[slot] = cluster
    assert Counter(owners) == {"a": 512, "b": 512}


def test_ranges_are_told_in_short():
    assert ranges([3, 0, 1, 2, 9, 7]) == "0-3,7,9"
