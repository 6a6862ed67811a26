"""The application, put together by hand.

Gunicorn calls `create_app_from_environment`; tests call `create_app` with a configuration of their
own. Making the application opens nothing: the lifespan's start does, in the worker after the fork.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from synap.auth.permissions import TRUSTED
from synap.config.handed import config_of_environment
from synap.http.api import errors
from synap.http.api.auth_guard import METRICS, PUBLIC, Guard
from synap.http.api.console import pages
from synap.http.api.credentials import Credentials
from synap.http.api.cross_site import Cors, RefusalHeaders, SiteGuard
from synap.http.api.endpoints import (
    api_keys,
    backup,
    commands,
    exports,
    idempotency,
    metrics,
    operations,
    probes,
    raw_values,
    replication,
    root,
    slots,
    snapshots,
    status,
    users,
    watch,
)
from synap.http.api.endpoints.backup import CHECKSUM
from synap.http.api.errors import CLUSTER_URL
from synap.http.api.fast_path import FastPath
from synap.http.api.hot_headers import HotHeaders
from synap.http.api.hot_routes import routes_of
from synap.http.api.idempotency import REPLAYED
from synap.http.api.known_credentials import KnownCredentials
from synap.http.api.known_requests import KnownRequests
from synap.http.api.openapi import docs_page, document
from synap.http.api.openapi.routes import ROUTES
from synap.http.api.operations.table import OPERATIONS
from synap.http.api.packing import Packing
from synap.http.api.rate_limits import RateLimits
from synap.http.api.request import App, Request
from synap.http.api.request_observer import REQUEST_ID, Observer
from synap.http.api.resource import LAG_MS, MASTER, OFFSET, POSITION
from synap.http.api.routing import NO_PATH, RawPathRouter
from synap.http.api.slot_guard import SlotGuard
from synap.http.api.trusted_proxies import TrustedProxies
from synap.ipc.writer_client import WriterClient
from synap.service.account_directory import AccountDirectory
from synap.service.feed.watching import Watching
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.password_checks import PasswordChecks
from synap.service.slot_table import SlotRule, SlotTable

if TYPE_CHECKING:
    from synap.config.keys import Config

# Headers of answers that pages of the named origins may read, beside those that they always may.
_EXPOSED = (
    OFFSET, POSITION, LAG_MS, MASTER, CLUSTER_URL, REQUEST_ID, CHECKSUM, REPLAYED, "ETag",
    "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
)  # fmt: skip

# For whom it counts what the feed asks for by itself: no user's name has a blank.
_WATCHERS = "the feed"

# What is served with nothing but the node and its calls.
_THEMES = (
    operations, raw_values, commands, exports, idempotency, status, probes, metrics, backup,
    snapshots, replication, document, docs_page, root,
)  # fmt: skip

logger = logging.getLogger(__name__)


def create_app_from_environment() -> App:
    """Return the application of the node that SYNAP_CONFIG and the environment describe.

    Raises:
        ConfigInvalid: the configuration has faults.
    """
    return create_app(config_of_environment())


def _rate_limits(config: Config, local: LocalNode, proxies: TrustedProxies) -> list[RateLimits]:
    if not config.rate_limit.enabled:
        return []
    return [RateLimits(config, local.paths.run_dir / "rates", proxies)]


def create_app(config: Config) -> App:
    """Return the application of one node; opens nothing yet."""
    local = LocalNode(config)
    timeout_seconds = config.server.write_timeout_ms / 1000
    client = WriterClient(local.paths.writer_socket, timeout_seconds, local.write_refusal)
    directory = AccountDirectory(local, config.auth)
    checks = PasswordChecks(local.paths.run_dir / "passwords.lock")
    table = SlotTable(local, config.sharding) if config.sharding.slots else None
    rule = None if table is None else SlotRule(table)
    known = KnownCredentials(local, rule)
    credentials = Credentials(directory, checks, config.auth, known)
    proxies = TrustedProxies(config.server.trusted_proxies)
    guard = [Guard(credentials, config, proxies)] if config.auth.enabled else []
    limits = _rate_limits(config, local, proxies)
    spans = _spans(config)
    observer = Observer(local, *spans)
    sites = SiteGuard(config, proxies)
    cors = _cors(config)
    api = NodeApi(local, client)
    watching = Watching(local, partial(api.require_held, holder=_WATCHERS))
    app = App(
        request_type=Request,
        router=RawPathRouter(),
        middleware=[
            WorkerResources(local, client, checks, proxies, *limits, watching, *spans),
            observer,
            Packing(),
            sites,
            *limits,
            *guard,
            SlotGuard(table),
            KnownRequests(config),
            *([cors] if cors else []),
        ],
    )
    app.trusted_proxies, app.probe_paths = proxies, PUBLIC | {METRICS, NO_PATH}
    app.takes_proxy_protocol = config.server.proxy_protocol
    app.refusal_headers = RefusalHeaders(cors)
    app.is_guarded = config.auth.enabled
    app.on_drain = watching.drain
    errors.install(app, local, {route.path for routes in ROUTES.values() for route in routes})
    has_auth = config.auth.enabled
    counts_clients = bool(limits) and bool(proxies)
    app.fast_path = FastPath(
        local, api, observer,
        HotHeaders(sites, known if has_auth else None, counts_clients=counts_clients),
        (*routes_of(OPERATIONS), *raw_values.hot_routes(), commands.HotCommands(local)),
        known=known if has_auth else None,
        limits=limits[0] if limits else None,
        answers_vary=sites.answers_vary,
        trusted=TRUSTED if rule is None else TRUSTED.bound(rule),
    )  # fmt: skip
    for theme in _THEMES:
        theme.add_routes(app, local, api)
    users.add_routes(app, local, api, directory, checks, credentials)
    api_keys.add_routes(app, local, api, directory)
    slots.add_routes(app, local, api, table)
    watch.add_routes(app, local, api, watching, sites, credentials, proxies)
    if config.console.enabled:
        pages.add_routes(app, local, api)
    return app


class Opened(Protocol):
    """What is opened in the worker, after the fork."""

    def start(self) -> None: ...

    def close(self) -> None: ...


class WorkerResources:
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


def _spans(config: Config) -> list[Any]:
    """Return what makes spans of requests, if somebody collects any."""
    if config.telemetry.endpoint is None:
        return []
    # An extra: who does without it does without its libraries.
    return [import_module("synap.http.api.spans").Spans(config)]


def _cors(config: Config) -> Cors | None:
    origins = config.server.cors_origins
    if not origins:
        return None
    allowed = "*" if "*" in origins else list(origins)
    return Cors(allow_origins=allowed, expose_headers=_EXPOSED)
