"""What a peer says of itself: names, URLs and notes, checked where they enter.

They end up in logs, files, headers and tables of this node, and in what others are told.

Source: docs/protocol.md, "Messages", M5.
"""

from __future__ import annotations

import re

from synap.addresses import URL_PATTERN, split_address

# An IPv6 address with its zone, or a host's name, and the port.
_ADDRESS = re.compile(r"[A-Za-z0-9._:%\[\]-]{1,300}", re.ASCII)
_URL = re.compile(URL_PATTERN, re.ASCII)


def check_name(name: str) -> None:
    """Raise ValueError where a name can't be shown on a line."""
    if not name.isprintable():
        raise ValueError("a name that can't be printed")


def check_url(url: str) -> None:
    """Raise ValueError for what is neither empty nor http://host:port."""
    if url and not _URL.fullmatch(url):
        raise ValueError("a URL that is not http://host:port")


def check_address(address: str) -> None:
    """Raise ValueError for what is neither empty nor host:port."""
    if address and not _ADDRESS.fullmatch(address):
        raise ValueError("an address that is not host:port")
    if address:
        split_address(address)


def printable(text: str) -> str:
    """Return `text` with what can't be shown on a line escaped, and no longer than it was."""
    if text.isprintable():
        return text
    return text.encode("unicode_escape").decode()[: len(text)]
