"""A master and a replica for chaos tests, and the ways to lose them."""

from __future__ import annotations

import http.client
import os
import signal
from contextlib import suppress

from tests.support import HOST, Cluster, eventually
from tests.system.test_roles import SECONDS, await_silence, facts, follow, promote, synap


class Stage:
    """Who is what now; after each fault all is well again, or comes to be by itself."""

    def __init__(self, cluster: Cluster) -> None:
        self.master, self.replica = cluster.nodes

    def lose_writer(self) -> None:
        os.kill(self.master.owner_pid(), signal.SIGKILL)

    def lose_node(self) -> None:
        self.master.kill()
        self.master.start()
        self.await_level()

    def switch_over(self) -> None:
        name = str(self.replica.settings["server.node_id"])
        # A master that was made lately tells its replicas some time after they acknowledge.
        eventually(lambda: name in str(facts(self.master)["replicas"]), SECONDS)
        url = f"http://{HOST}:{self.replica.port}"
        done = synap("switchover", "--to", name, "--url", url)
        assert done.returncode == 0, done.stderr
        self.swap()

    def lose_master(self) -> None:
        self.master.kill()
        await_silence(self.replica)
        promote(self.replica, force=True)
        self.swap()
        self.replica.start()
        follow(self.replica, self.master, force=True)
        self.await_level()

    def swap(self) -> None:
        """Have the replica be the master."""
        self.master, self.replica = self.replica, self.master

    def await_level(self) -> None:
        """Wait until the replica has all of its master's log."""

        def is_following() -> bool:
            with suppress(OSError, http.client.HTTPException, KeyError):
                return self.replica.is_healthy() and "in_sync" in str(
                    self.replica.request("GET", "/health/replication").json()["status"]
                )
            return False

        eventually(is_following, SECONDS)
