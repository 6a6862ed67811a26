"""The Python client while what it speaks to is lost, in the long form of `make chaos`.

No write that was answered may be lost, no increment may count twice, each own write is read at
once, and the watcher sees each value of the counter once, in order. Up to 200 times the writer, the
node, the role by a switchover, or the master is lost. With every test run each but the node is lost
once, in tests/system/test_client.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import length
from tests.chaos.client_load import Load
from tests.chaos.stage import Stage
from tests.support import Cluster, eventually
from tests.system.test_roles import HEARTBEAT, SECONDS, is_level

ROUNDS = min(length.ROUNDS, 200)

pytestmark = [
    pytest.mark.timeout(120 + 30 * ROUNDS),
    pytest.mark.skipif(not length.IS_LONG, reason="the short form is in tests/system"),
]


def faults(stage: Stage) -> list[Callable[[], None]]:
    kinds = [stage.lose_writer, stage.lose_node, stage.switch_over, stage.lose_master]
    chooser = random.Random(1)
    return [chooser.choice(kinds) for _ in range(ROUNDS)]


def test_client_loses_no_write_and_counts_none_twice(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1, **HEARTBEAT) as cluster:
        stage, load = Stage(cluster), Load(cluster)
        with load.running():
            for fault in faults(stage):
                load.await_more()
                fault()
        eventually(lambda: is_level(stage.master, stage.replica), SECONDS)
        load.check(stage.master)
    print(f"\n{ROUNDS} rounds: {len(load.counted)} counted, {len(load.written)} keys written")
