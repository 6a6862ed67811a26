"""Entity tags: what lists of them hold for which version."""

import pytest

from synap.http.api.etags import etag_of, parse_tags
from synap.request_errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "version", "matches", "names"),
    [
        (b'"7"', 7, True, True),
        (b'"7"', 8, False, False),
        (b'"7"', 0, False, False),
        (b'W/"7"', 7, False, True),
        (b'"1", W/"2" ,"7"', 7, True, True),
        (b'"1","abc,d",W/"7"', 7, False, True),
        (b"*", 7, True, True),
        (b" * ", 0, False, False),
        (b'""', 7, False, False),
        (b'"7",', 7, True, True),
    ],
)
def test_tags_hold_for_a_version(text: bytes, version: int, matches: bool, names: bool) -> None:
    tags = parse_tags(text, "If-Match")
    assert (tags.holds_strong(version), tags.holds_weak(version)) == (matches, names)


@pytest.mark.parametrize("text", [b"", b"7", b'"7', b'"7" "8"', b'w/"7"', b'*, "7"', b",", b'"a"b'])
def test_malformed_tags_are_refused_with_the_form_that_is_wanted(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="header If-Match is neither"):
        parse_tags(text, "If-Match")


def test_etag_is_the_version_in_quotes() -> None:
    assert etag_of(42) == '"42"'
