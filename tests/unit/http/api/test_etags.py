"""Entity tags: what lists of them hold for which version."""

import pytest

from synap.commands.keyspace import ABSENT
from synap.http.api.etags import etag_of, parse_tags
from synap.place import UNKNOWN_TAG, Place
from synap.request_errors import InvalidRequest

SEVEN = Place(7, "aaaaaaaa")


@pytest.mark.parametrize(
    ("text", "version", "matches", "names"),
    [
        (b'"7-aaaaaaaa"', SEVEN, True, True),
        (b'"7-aaaaaaaa"', Place(8, "aaaaaaaa"), False, False),
        (b'"7-aaaaaaaa"', Place(7, "bbbbbbbb"), False, False),
        (b'"7"', SEVEN, False, False),
        (b'"7-aaaaaaaa"', ABSENT, False, False),
        (b'"7-00000000"', Place(7, UNKNOWN_TAG), False, False),
        (b'"0-00000000"', ABSENT, False, False),
        (b'W/"7-aaaaaaaa"', SEVEN, False, True),
        (b'"1-aaaaaaaa", W/"2" ,"7-aaaaaaaa"', SEVEN, True, True),
        (b'"1","abc,d",W/"7-aaaaaaaa"', SEVEN, False, True),
        (b"*", SEVEN, True, True),
        (b"*", Place(7, UNKNOWN_TAG), True, True),
        (b" * ", ABSENT, False, False),
        (b'""', SEVEN, False, False),
        (b'"7-aaaaaaaa",', SEVEN, True, True),
    ],
)
def test_tags_hold_for_a_version(text: bytes, version: Place, matches: bool, names: bool) -> None:
    tags = parse_tags(text, "If-Match")
    assert (tags.holds_strong(version), tags.holds_weak(version)) == (matches, names)


@pytest.mark.parametrize("text", [b"", b"7", b'"7', b'"7" "8"', b'w/"7"', b'*, "7"', b",", b'"a"b'])
def test_malformed_tags_are_refused_with_the_form_that_is_wanted(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="header If-Match is neither"):
        parse_tags(text, "If-Match")


def test_etag_is_the_version_in_quotes() -> None:
    assert etag_of(SEVEN) == '"7-aaaaaaaa"'
