"""Mutated heads: both ways through the HTTP worker give the same answers, or only one is taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

import pytest

from synap.config.keys import Config
from synap.config.loading import load_config
from tests.chaos.length import IS_LONG
from tests.integration.http_support import make_config, make_generation, open_board, replica_view
from tests.mutated_heads import compare_many
from tests.support import Node

HEADS = 1_000_000 if IS_LONG else 20_000
# Of them, what goes the short way: else nothing was compared.
LEAST_TAKEN = 0.05
PASSWORD = "correct horse"
_AUTH = {"auth.enabled": True, "auth.root.password": PASSWORD}
_ROOT = "Basic cm9vdDpjb3JyZWN0IGhvcnNl"


@pytest.fixture
def seed() -> int:
    """Another one each time; a failure names it."""
    return SystemRandom().randrange(1 << 32)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave refusals out of the log: there are many."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def compare(config: Config, seed: int, part: float, credentials: tuple[str, ...] = ()) -> float:
    """Send a part of all heads by both ways; return the share that the short one took.

    Raises:
        AssertionError: one was answered in two ways.
    """
    taken = asyncio.run(compare_many(config, seed, int(HEADS * part), credentials))
    print(f"seed {seed}: {taken:.0%} of {int(HEADS * part):,} heads went the short way")
    return taken


@pytest.mark.parametrize(("has_auth", "part"), [(False, 0.4), (True, 0.3)])
def test_mutated_heads_at_a_master_are_answered_the_same_by_both_ways(
    tmp_path: Path, seed: int, has_auth: bool, part: float
) -> None:
    settings = {"server.workers": 1, **(_AUTH if has_auth else {})}
    with Node(tmp_path, "heads", settings) as node:
        config = load_config(None, {k: str(v) for k, v in node.settings.items()}, environ={})
        assert compare(config, seed, part, (_ROOT,) if has_auth else ()) > LEAST_TAKEN


@pytest.mark.parametrize(("has_auth", "part"), [(False, 0.2), (True, 0.1)])
def test_mutated_heads_at_a_replica_are_answered_the_same_by_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, has_auth: bool, part: float
) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    settings = {"auth__enabled": True, "auth__root__password": PASSWORD} if has_auth else {}
    config = make_config(tmp_path, replication__read_wait_ms=0, **settings)
    make_generation(config, offset=5, **{"heads:a": "v" * 64})
    with open_board(config) as board:
        board.publish(replica_view(lag_since_ns=1))
        assert compare(config, seed, part, (_ROOT,) if has_auth else ()) > LEAST_TAKEN
