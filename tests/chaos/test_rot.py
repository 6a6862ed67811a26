"""Bits that flip in the live stores of a cluster under load, round after round.

In each round some values of one node have a bit flipped, wherever a page of its store holds them.
No node may answer a wrong value at any time; at the end each node has all values again by itself,
all nodes hold the same, and so does a backup.

A few rounds run with every test run; `make chaos` sets SYNAP_CHAOS_ROUNDS for the long form.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.chaos import length
from tests.chaos.load import Load
from tests.support import HOST, Cluster, Node, eventually
from tests.system.test_replication import await_equal_nodes
from tests.system.test_rot import VALUES, fill, has_all, is_whole, wrong_values

ROUNDS = 50 if length.IS_LONG else 4
# Every so many rounds the owner of the node's log is killed, and its successor finds the damage.
KILL_EVERY = 4
SNAPSHOT_EVERY = 3

pytestmark = pytest.mark.timeout(120 + 20 * ROUNDS)


def test_flipped_bits_under_load_are_never_served_and_never_stay(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    print(f"\nseed {seed}")
    flipped = 0
    with Cluster(tmp_path, 2) as cluster:
        fill(cluster.master)
        for replica in cluster.replicas:
            eventually(partial(has_all, replica))
        url = f"http://{HOST}:{cluster.master.port}"
        with Load(url) as load:
            for number in range(ROUNDS):
                node = dice.choice(cluster.nodes)
                flipped += flip(node, dice)
                disturb(node, number)
                for each in cluster.nodes:
                    assert wrong_values(each) == [], (seed, number)
                eventually(partial(is_whole, node))
            load.stop()
            assert load.faults() == []
        assert flipped >= ROUNDS
        await_equal_nodes(cluster)
        # It is restored, and compared with what the node holds.
        command = ("backup", "--url", url, "--output", str(tmp_path / "backup"))
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        subprocess.run(
            [sys.executable, "-P", "-m", "workers.main", *command], check=True, env=environment
        )
    print(f"{flipped} bits flipped in {ROUNDS} rounds, none was served")


def flip(node: Node, dice: random.Random) -> int:
    """Flip a bit in some values in the live store of a node; return how many places had one."""
    store = node.data_dir / "store"
    generation = (store / "CURRENT").read_text().split()[0]
    flipped = 0
    with (store / generation / "data.mdb").open("r+b") as file:
        pages = mmap.mmap(file.fileno(), 0)
        for value in dice.sample(sorted(VALUES.values()), dice.randrange(1, 10)):
            at, bit = dice.randrange(len(value)), 1 << dice.randrange(8)
            place = pages.find(value.encode())
            while place >= 0:
                pages[place + at] ^= bit
                flipped += 1
                place = pages.find(value.encode())
        pages.close()
    return flipped


def disturb(node: Node, number: int) -> None:
    """Have the damage met by more than reads, now and then."""
    if number % KILL_EVERY == KILL_EVERY - 1:
        os.kill(node.owner_pid(), signal.SIGKILL)
    elif number % SNAPSHOT_EVERY == SNAPSHOT_EVERY - 1:
        node.request("POST", "/snapshot")
