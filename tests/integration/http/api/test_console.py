"""The console's routes: there, unless the configuration says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from falcon.inspect import inspect_compiled_router

from synap.http.api.app import create_app
from tests.integration.http_support import make_config


@pytest.mark.parametrize(("enabled", "number"), [(True, 3), (False, 0)])
def test_console_is_served_where_it_is_enabled(tmp_path: Path, enabled: bool, number: int) -> None:
    app = create_app(make_config(tmp_path, console__enabled=enabled))
    routes = inspect_compiled_router(app._router)
    assert len([route for route in routes if route.path.startswith("/console")]) == number
