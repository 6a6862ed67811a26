"""What another wrote at etcd."""

from __future__ import annotations

import pytest

from synap.failover.engine import EngineFailed, Item
from synap.failover.etcd import _decoded
from synap.failover.records import decoded
from synap.failover.rules import Member

DEEP = b'{"more": %b' % (b"[" * 100_000)


def test_value_that_is_nested_deeply_is_none() -> None:
    assert decoded(Item(DEEP, 1, 1, 0), Member) is None


def test_answer_that_is_nested_deeply_is_none_of_etcds() -> None:
    with pytest.raises(ValueError, match="no object"):
        _decoded(200, b"[" * 100_000)


def test_refusal_in_plain_text_is_told() -> None:
    """As of a client certificate with a common name, where etcd has users."""
    with pytest.raises(EngineFailed, match="400 CommonName of client"):
        _decoded(400, b"CommonName of client sending a request against gateway will be ignored\n")
