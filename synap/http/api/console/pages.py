"""`/console`: the page, its files, and what the configuration says of it.

All of this is the same on every node and open to all, as the page has to be there before anybody
can log in. What it shows afterwards is asked by the API.
"""

from __future__ import annotations

import falcon
import orjson
from falcon.asgi import Response

from synap import __version__
from synap.http.api.console.files import PAGE, SETTINGS, page_file
from synap.http.api.headers import IF_NONE_MATCH
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi

# No script, style, image or connection from elsewhere, none inside the page, no frame around it,
# and no text that becomes markup or a script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # Asked for each time, and answered with 304 where nothing is new.
    ("Cache-Control", "no-cache"),
)


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the page."""
    console = Console(node, api)
    app.add_route(PAGE, console)
    app.add_route(SETTINGS, console, suffix="settings")
    app.add_route(f"{PAGE}/{{file:path}}", console)


class Console(Resource):
    """The page and what belongs to it."""

    async def on_get(self, req: Request, resp: Response, file: str = "") -> None:
        found = page_file(file) if file or req.uri_template == PAGE else None
        if found is None:
            raise falcon.HTTPRouteNotFound
        resp.set_headers(_HEADERS)
        resp.set_header("ETag", found.etag)
        if req.raw_headers.get(IF_NONE_MATCH, b"").decode("latin-1") == found.etag:
            resp.status = 304
            return
        resp.content_type = found.content_type
        resp.data = found.content

    async def on_get_settings(self, req: Request, resp: Response) -> None:
        config = self._node.config
        resp.set_header("Cache-Control", "no-store")
        resp.data = orjson.dumps(
            {
                "login": config.auth.enabled,
                "write": config.console.write,
                "certificate": config.server.tls.client_ca_path is not None,
                "version": __version__,
            }
        )
