"""The application, put together by hand.

Gunicorn calls `create_app_from_environment`; tests call `create_app` with a configuration of their
own. Making the application opens nothing: the lifespan's start does, in the worker after the fork.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import falcon
from falcon.asgi import Response

from synap.client import WriterClient
from synap.handed_config import config_of_environment
from synap.http import (
    admin,
    api_keys,
    backup,
    balancing,
    command_endpoint,
    docs_page,
    errors,
    express,
    key_ops,
    keys,
    metrics,
    node,
    openapi,
    raw,
    roles,
    users,
)
from synap.http.calls import Calls
from synap.http.credentials import Credentials
from synap.http.directory import Directory
from synap.http.express import Express
from synap.http.guard import Guard
from synap.http.local import LocalNode
from synap.http.observed import REQUEST_ID, Observer
from synap.http.password_checks import PasswordChecks
from synap.http.rate_limits import RateLimits
from synap.http.request import App, Request
from synap.http.resource import LAG_MS, MASTER, OFFSET
from synap.http.routing import RawPathRouter

if TYPE_CHECKING:
    from synap.config import Config

logger = logging.getLogger(__name__)


def create_app_from_environment() -> App:
    """Return the application of the node that SYNAP_CONFIG and the environment describe.

    Raises:
        ConfigInvalid: the configuration has faults.
    """
    return create_app(config_of_environment())


def create_app(config: Config) -> App:
    """Return the application of one node; opens nothing yet."""
    local = LocalNode(config)
    timeout_seconds = config.server.write_timeout_ms / 1000
    client = WriterClient(local.paths.writer_socket, timeout_seconds, local.write_refusal)
    directory = Directory(local, config.auth)
    checks = PasswordChecks(local.paths.run_dir / "passwords.lock")
    credentials = Credentials(directory, checks, config.auth)
    guard = [Guard(credentials, config)] if config.auth.enabled else []
    limits = (
        [RateLimits(config, local.paths.run_dir / "rates")] if config.rate_limit.enabled else []
    )
    observer = Observer(local)
    app = App(
        request_type=Request,
        router=RawPathRouter(),
        middleware=[
            Lifespan(local, client, checks, *limits),
            observer,
            *limits,
            *guard,
            *_cors(config),
        ],
    )
    errors.install(app, local)
    calls = Calls(local, client)
    if express.is_possible(config):
        app.express = Express(local, calls, observer)
    themes = (
        keys, key_ops, raw, command_endpoint, node, balancing, metrics, backup, admin, roles,
        openapi, docs_page,
    )  # fmt: skip
    for theme in themes:
        theme.add_routes(app, local, calls)
    users.add_routes(app, local, calls, directory, checks, credentials)
    api_keys.add_routes(app, local, calls, directory)
    return app


class Opened(Protocol):
    """What is opened in the worker, after the fork."""

    def start(self) -> None: ...

    def close(self) -> None: ...


class Lifespan:
    """Opens and closes what the worker holds. Sees no request, so that none pays for it."""

    def __init__(self, local: LocalNode, client: WriterClient, *more: Opened) -> None:
        self._local = local
        self._client = client
        self._more = more

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        self._local.start()
        self._client.start()
        for each in self._more:
            each.start()
        logger.info("the worker serves", extra={"action": "worker_start"})

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        for each in self._more:
            each.close()
        self._client.close()
        self._local.close()


def _cors(config: Config) -> list[falcon.CORSMiddleware[Request, Response]]:
    origins = config.server.cors_origins
    if not origins:
        return []
    allowed = "*" if "*" in origins else list(origins)
    return [
        falcon.CORSMiddleware(
            allow_origins=allowed, expose_headers=[OFFSET, LAG_MS, MASTER, REQUEST_ID, "ETag"]
        )
    ]
