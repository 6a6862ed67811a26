"""Exports beside a writer that rewrites all keys in one request: each shows one state.

A few of some keys run with every test run, in tests/integration; here are fifty, of a thousand.
"""

from __future__ import annotations

import pytest

from tests.chaos import length
from tests.conftest import StartNode
from tests.integration.http.api.test_exports import check_exports_beside_a_writer
from tests.integration.http_support import Client

KEYS = 1000
EXPORTS = 50


@pytest.mark.skipif(not length.IS_LONG, reason="the short form is in tests/integration")
@pytest.mark.timeout(300)
def test_fifty_exports_of_a_thousand_keys_each_show_one_state(start_node: StartNode) -> None:
    check_exports_beside_a_writer(Client(start_node().port), "generation", KEYS, EXPORTS)
