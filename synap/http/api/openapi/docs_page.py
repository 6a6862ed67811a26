"""`/docs`: a page that shows `/openapi.json`, from files of the package.

The page asks nothing of any other address, and its policy forbids it to.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from falcon.asgi import Response

from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

FOLDER = Path(__file__).parent / "page"
# No script, style, image or connection from elsewhere, none inside the page, no frame around it.
_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the page and its files."""
    page = Page(node, api)
    app.add_route("/docs", page)
    app.add_route("/docs/page.js", page, suffix="script")
    app.add_route("/docs/page.css", page, suffix="style")


class Page(Resource):
    """The page and its files."""

    async def on_get(self, req: Request, resp: Response) -> None:
        _answer(resp, "index.html", "text/html; charset=utf-8")

    async def on_get_script(self, req: Request, resp: Response) -> None:
        _answer(resp, "page.js", "text/javascript; charset=utf-8")

    async def on_get_style(self, req: Request, resp: Response) -> None:
        _answer(resp, "page.css", "text/css; charset=utf-8")


def _answer(resp: Response, name: str, content_type: str) -> None:
    resp.content_type = content_type
    resp.set_header("Content-Security-Policy", _POLICY)
    resp.set_header("X-Content-Type-Options", "nosniff")
    resp.data = _content(name)


@cache
def _content(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
