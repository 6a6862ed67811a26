"""Names, URLs and notes of peers: what enters, and in what form."""

from __future__ import annotations

import msgspec
import pytest

from synap.errors import ProtocolViolation
from synap.replication.rules.messages import MAGIC, Hello, Refusal, answers, encode, requests

LINE_BREAKS = ("a\nb", "a\r\nX-Header: 1", "\x1b[31m", "a\x00b", "\u2028")
URLS = (
    "http://h:1/path", "http://user:pass@h:1", "javascript:alert(1)", "h:1", "http://h:1\r\nX: 1",
    "http://h 1", "file:///etc/passwd", "http://" + "h" * 256, "http://h\u00e9:1",
)  # fmt: skip
ADDRESSES = ("h", "h:0", "h:99999", "h:1\n", "h h:1", "/tmp/s:1", "a" * 400 + ":1")
START = [0, 0, 0]


def raw(*fields: object) -> list[bytes]:
    """Return a message as a peer may make it, whatever the fields are."""
    return [MAGIC + b"\x01" + msgspec.msgpack.encode(fields)]


@pytest.mark.parametrize("name", [*LINE_BREAKS, "n" * 129, ""])
def test_name_that_can_not_be_shown_is_refused(name: str) -> None:
    """Cites M5."""
    for parts in (raw(1, name, START, [], ""), raw(6, name)):
        with pytest.raises(ProtocolViolation):
            requests.decode(parts)
    with pytest.raises(ProtocolViolation):
        answers.decode(raw(33, name, START, [], ""))


@pytest.mark.parametrize("url", URLS)
def test_url_that_is_no_nodes_is_refused(url: str) -> None:
    """Cites M5."""
    with pytest.raises(ProtocolViolation):
        requests.decode(raw(1, "r", START, [], url))
    with pytest.raises(ProtocolViolation):
        answers.decode(raw(34, "busy", "", 0, 0, url))


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_that_is_none_is_refused(address: str) -> None:
    """Cites M5."""
    with pytest.raises(ProtocolViolation):
        requests.decode(raw(1, "r", START, [], "", False, address))


@pytest.mark.parametrize(
    "url", ["", "http://h:1", "https://[fe80::1%25eth0]:1", "http://my_host:1"]
)
def test_words_of_an_honest_node_enter_as_they_are(url: str) -> None:
    name = "knoten-\u00e4 7"
    (hello, _) = requests.decode(raw(1, name, START, [], url, False, "[::1]:15502"))
    assert isinstance(hello, Hello)
    assert (hello.replica, hello.url, hello.sync_address) == (name, url, "[::1]:15502")


def test_note_of_a_refusal_is_escaped() -> None:
    (refusal, _) = answers.decode(encode(Refusal("busy", "one\ntwo\x1b[0m")))
    assert isinstance(refusal, Refusal)
    assert refusal.detail == r"one\ntwo\x1b"[: len(refusal.detail)]


@pytest.mark.parametrize("body", [b"\x92\x06\xa2\xff\xfe", b"\x91" * 5000, b"\xdd" + b"\xff" * 4])
def test_bytes_that_are_no_message_are_a_violation_and_nothing_else(body: bytes) -> None:
    """Cites M1: text that is no UTF-8, nesting without end, lengths that can't be."""
    with pytest.raises(ProtocolViolation):
        requests.decode([MAGIC + b"\x01" + body])
