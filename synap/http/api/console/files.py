"""The console's files: in `page/`, and those of others that it uses."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import msgspec

from synap.http import vendor

PAGE = "/console"
SETTINGS = "/console/settings.json"
FOLDER = Path(__file__).parent / "page"
_VENDORED = ("preact.js", "uplot.js", "uplot.css")
_INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFile(msgspec.Struct, frozen=True):
    """A file as it is answered.

    Attributes:
        content_type: With its charset.
        etag: Of its content, quoted.
        content: All of it.
    """

    content_type: str
    etag: str
    content: bytes


@cache
def file_places() -> dict[str, Path]:
    """Return where each file lies, by its path below `/console`; "" is the page."""
    own = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*.*")}
    own[""] = own.pop(_INDEX)
    return own | {f"vendor/{name}": vendor.FOLDER / name for name in _VENDORED}


def console_paths() -> frozenset[str]:
    """Return the paths of all that the console consists of."""
    files = {f"{PAGE}/{name}" if name else PAGE for name in file_places()}
    return frozenset(files | {SETTINGS})


@cache
def page_file(name: str) -> PageFile | None:
    """Return a file by its path below `/console`; None where there is none of that name."""
    path = file_places().get(name)
    if path is None:
        return None
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return PageFile(_TYPES[path.suffix], etag, content)
