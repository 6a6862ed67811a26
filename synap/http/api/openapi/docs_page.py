"""`/docs`: a page that shows `/openapi.json`: Swagger UI, and a few files of the package's own.

The page asks nothing of any other address, and its policy forbids it to: no script, style or
connection from elsewhere, and none inside the page.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from falcon.asgi import Response

from synap.http import vendor
from synap.http.api.etags import parse_tags
from synap.http.api.headers import IF_NONE_MATCH
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

FOLDER = Path(__file__).parent / "page"
# Swagger UI's icons are in its style, as data.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_PATHS = {
    "/docs": FOLDER / "index.html",
    "/docs/page.js": FOLDER / "page.js",
    "/docs/page.css": FOLDER / "page.css",
    "/docs/swagger-ui.js": vendor.FOLDER / "swagger-ui.js",
    "/docs/swagger-ui.css": vendor.FOLDER / "swagger-ui.css",
}


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the page and its files."""
    for path, file in _PATHS.items():
        app.add_route(path, PageFile(node, api, file))


class PageFile(Resource):
    """One file of the page."""

    is_long = True

    def __init__(self, node: LocalNode, api: NodeApi, file: Path) -> None:
        super().__init__(node, api)
        self._file = file

    async def on_get(self, req: Request, resp: Response) -> None:
        content, tag = _content(self._file)
        resp.set_headers(
            (
                ("Content-Security-Policy", _POLICY),
                ("X-Content-Type-Options", "nosniff"),
                ("Cache-Control", "private, no-cache"),
                # A weak one: packed and plain, it is the same file.
                ("ETag", f"W/{tag}"),
            )
        )
        held = req.raw_headers.get(IF_NONE_MATCH)
        if held is not None:
            tags = parse_tags(held, "If-None-Match")
            if tags.is_any or tag.encode() in tags.strong | tags.weak:
                resp.status = 304
                return
        resp.content_type = f"{_TYPES[self._file.suffix]}; charset=utf-8"
        resp.data = content


@cache
def _content(file: Path) -> tuple[bytes, str]:
    """Return a file's bytes, and its tag."""
    content = file.read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
