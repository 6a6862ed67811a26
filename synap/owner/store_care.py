"""What keeps the live store sound: looking at its records, mending them, and making it anew.

A damaged record is mended where it lies. Where that can't help, because a page or the bytes of a
key are damaged, all of the store is made anew: a replica takes its master's snapshot, and the owner
of any other node's log ends, so that the next one puts the store aside and rebuilds it.
That is done only where these were seen to lead to a whole state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from synap.errors import StoreDamaged, SynapError
from synap.node.data_dir import DataDir
from synap.node.paths import NodePaths
from synap.node.suspicion import take_met
from synap.owner.mender import CopySource, Mender
from synap.owner.verifier import Verifier
from synap.replication.rules.mending import Damage
from synap.replication.rules.record_copies import Looked, Summed
from synap.shared.board import StoreHealth
from synap.shared.series import Count
from synap.store.scrubbing import Suspect

logger = logging.getLogger(__name__)


# How often it is looked whether the store was replaced, and how often its helper may have nobody
# to ask before the node helps itself.
_RENEW_SECONDS = 0.5
_RENEW_LOOKS = 60
# How often it is looked whether a reader met damage.
_MET_SECONDS = 0.5


class Helper(Protocol):
    """What the engine of a role can do for the store."""

    def copy_sources(self, own: CopySource) -> Sequence[CopySource]:
        """Return where sound copies of records are sought, in this order.

        Args:
            own: The node's own snapshot and log.
        """

    can_renew: bool
    """Whether the role has anybody who could replace the whole store."""

    def renew_store(self, why: str) -> bool:
        """Have the whole store replaced from elsewhere; False where nobody can be asked now."""

    async def compare(self, share: float) -> list[Suspect]:
        """Return where the store differs from another node's at one offset.

        Raises:
            VerifyFailed: the comparison did not come to its end.
        """

    def doubt(self, space: int, key: bytes) -> None:
        """Tell that node that the own log speaks for the own record."""


class StoreCare:
    """All methods belong to the loop that `start` was called on.

    Attributes:
        mender: Is told what is damaged.
        verifier: Looks at all records.
    """

    def __init__(
        self,
        paths: NodePaths,
        data_dir: DataDir,
        every_hours: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        fail: Callable[[BaseException], None],
        count: Count,
    ) -> None:
        """
        Args:
            every_hours: Time between two looks at all records; 0 for none.
            command: Starts the verifying process.
            environment: The process's whole environment.
            fail: Ends the owner by an error.
            count: Counts what is found and mended.
        """
        self._paths = paths
        self._data_dir = data_dir
        self._fail = fail
        self.mender = Mender(data_dir, count, self._see_ghosts, self._renew)
        self.verifier = Verifier(
            paths, self.mender, every_hours, command, environment,
            count=count, on_damaged_page=self._renew,
        )  # fmt: skip
        self._helper: Helper | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._note = ""

    def facts(self) -> StoreHealth:
        """Return what is known of the store's records."""
        return StoreHealth(self.verifier.facts(), self.mender.facts(), self._note)

    def look(self, space: int, key: bytes) -> Looked:
        """Return what the live store has of a key, for another node."""
        looked = self._data_dir.look(space, key)
        if not looked.is_sound:
            self.mender.report_key(key)
        return looked

    def summed(self, space: int, after: bytes, until: bytes, limit: int) -> Summed:
        """Return the sum over a range of the live store's records, for another node."""
        return self._data_dir.summed(space, after, until, limit)

    def doubt(self, space: int, key: bytes) -> None:
        """Look whether a record is what the own log says: a replica's is another one."""
        self.mender.doubt([Suspect(space, key)])

    def start(self, helper: Helper) -> None:
        """Begin, with the engine of the node's role."""
        self._helper = helper
        self.mender.start(helper.copy_sources(self.verifier), self.verifier, helper.doubt)
        self.verifier.start(helper.compare)
        self._listening = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """End; what is damaged stays so."""
        for stop in (self.verifier.stop, self.mender.stop):
            await stop()
        # Those two may have begun to renew; what renews has a process that must end with it.
        tasks = [task for task in (self._listening, self._renewing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        """Take what the node's other processes met in the store."""
        while True:
            why = take_met(self._paths)
            if why:
                self._renew(why)
            await asyncio.sleep(_MET_SECONDS)

    def _see_ghosts(self, source: str, ghosts: Sequence[Damage]) -> None:
        self._renew(
            f"the record of key {ghosts[0].key!r} is damaged, and by {source} there is no such key"
        )

    def _renew(self, why: str) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._make_anew(why))

    async def _is_renewed(self, why: str) -> bool:
        """Have the store replaced from elsewhere; return whether it was."""
        generation = self._data_dir.store.generation
        left_looks = _RENEW_LOOKS
        if self._helper is None or not self._helper.can_renew:
            return False
        while self._data_dir.store.generation == generation:
            if not self._helper.renew_store(why):
                left_looks -= 1
            if not left_looks:
                return False
            await asyncio.sleep(_RENEW_SECONDS)
        return True

    async def _make_anew(self, why: str) -> None:
        logger.error("the live store is damaged: %s", why, extra={"action": "store_damaged"})
        if await self._is_renewed(why):
            return
        try:
            # Nothing is wanted but to know that they lead to a whole state.
            await self.verifier.find(())
        except (SynapError, OSError) as error:
            self._note = (
                f"the live store is damaged ({why}) and can't be rebuilt here ({error}): promote a "
                "replica that is sound, or restore from a backup"
            )
            logger.error("%s", self._note, extra={"action": "store_damaged"})
            return
        self._fail(StoreDamaged(f"the live store is damaged and will be rebuilt: {why}"))
