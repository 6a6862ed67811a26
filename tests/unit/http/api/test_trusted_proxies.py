"""Proxies by name: who they are now, and no longer than they resolve."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from synap.http.api.trusted_proxies import KEEP_SECONDS, TrustedProxies


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name lead to these addresses; to none without one."""

    def look_up(name: str, *_: Any, **__: Any) -> Any:
        if not addresses:
            raise socket.gaierror
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_name_of_this_machine_holds_its_addresses() -> None:
    proxies = TrustedProxies(["localhost"])
    assert "127.0.0.1" not in proxies
    proxies.resolve(0.0)
    assert "127.0.0.1" in proxies
    assert "127.0.0.2" not in proxies
    assert "" not in proxies


def test_proxy_that_moved_is_believed_at_its_new_address_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxies = TrustedProxies(["proxy", "192.0.2.0/28"])
    resolving(monkeypatch, "10.0.0.1", "::ffff:10.0.0.2")
    proxies.resolve(0.0)
    assert all(address in proxies for address in ("10.0.0.1", "10.0.0.2", "192.0.2.1"))
    resolving(monkeypatch, "10.0.0.3")
    proxies.resolve(5.0)
    assert "10.0.0.3" in proxies
    assert "10.0.0.1" not in proxies


def test_name_that_does_not_resolve_is_believed_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxies = TrustedProxies(["proxy"])
    resolving(monkeypatch, "10.0.0.1")
    proxies.resolve(0.0)
    resolving(monkeypatch)
    proxies.resolve(KEEP_SECONDS)
    assert "10.0.0.1" in proxies
    proxies.resolve(KEEP_SECONDS + 1)
    assert "10.0.0.1" not in proxies
