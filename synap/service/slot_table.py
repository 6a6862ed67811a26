"""Which slots this node's cluster has: the configuration, and what was moved since.

What was moved is in the store (`synap.commands.slots`), so every node of a cluster knows it as soon
as it has applied it. A look costs the comparison of one word of shared memory, by which workers
also know that accounts have changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from synap.auth.permissions import Action
from synap.commands.slots import RECORDS, SlotRecord, decode_slot
from synap.errors import SlotElsewhere, SlotMoving
from synap.request_errors import CrossSlot, KeyMismatch
from synap.service.local_node import LocalNode
from synap.slots import SLOTS, Owner, owners_of, slot_of, tag_of
from synap.store import StoreReader

if TYPE_CHECKING:
    from synap.config.keys import Sharding

_KEY = b"kv:"


class Standing(msgspec.Struct, frozen=True):
    """How a slot stands at this cluster.

    Attributes:
        slot: Its number.
        is_own: Whether it is served here.
        owner: Whose it is, as far as this cluster knows.
        record: What the cluster knows of it beside the configuration; None for nothing.
    """

    slot: int
    is_own: bool
    owner: Owner
    record: SlotRecord | None = None


class SlotTable:
    """The slots, as one worker knows them."""

    def __init__(self, node: LocalNode, sharding: Sharding) -> None:
        self._node = node
        self._cluster = sharding.cluster
        self._configured = owners_of(sharding.slots)
        self._standings: list[Standing] = []
        self._version = -1
        self._reader: StoreReader | None = None

    def standings(self) -> list[Standing]:
        """Return how each slot stands."""
        reader = self._node.reader()
        version = self._node.accounts.cells[0]
        if version != self._version or reader is not self._reader:
            # In this order: what is read is at least as new as the number.
            self._standings = self._read(reader)
            self._version, self._reader = version, reader
        return self._standings

    def require(self, slot: int, *, writes: bool) -> None:
        """Refuse what is for another cluster, or to be written while it moves.

        Raises:
            SlotElsewhere: the slot is another cluster's.
            SlotMoving: it is on its way to one.
        """
        standing = self.standings()[slot]
        if not standing.is_own:
            raise SlotElsewhere(slot, standing.owner.cluster, standing.owner.url)
        record = standing.record
        if writes and record is not None and record.state == "moving":
            raise SlotMoving

    def _read(self, reader: StoreReader) -> list[Standing]:
        records, _ = reader.list_accounts(RECORDS)
        known = {int(key[len(RECORDS) :]): decode_slot(record.value) for key, record in records}
        return [self._standing(slot, known.get(slot)) for slot in range(SLOTS)]

    def _standing(self, slot: int, record: SlotRecord | None) -> Standing:
        owner = self._configured[slot]
        if record is None:
            return Standing(slot, owner.cluster == self._cluster, owner)
        if record.cluster:
            owner = Owner(record.cluster, record.url)
        return Standing(slot, record.state in ("moving", "taken"), owner, record)


class SlotRule:
    """What one request may do with keys, by their slots; a `KeyRule`."""

    def __init__(
        self, table: SlotTable | None, tag: bytes | None = None, moved_slot: int | None = None
    ) -> None:
        """
        Args:
            table: Which slots are here; None where all are.
            tag: The tag that the request says its keys have; None where it says none.
            moved_slot: A slot that the request is to move, which it may use whosever it is.
        """
        self._table = table
        self._tag = tag
        self._moved_slot = moved_slot

    def check(self, needs: Iterable[tuple[Action, bytes]]) -> None:
        """Raise where the keys are not here, not alike, or not what the request says.

        Raises:
            KeyMismatch, CrossSlot, SlotElsewhere, SlotMoving: as they say.
        """
        first: bytes | None = None
        slot, writes = 0, False
        for action, resource in needs:
            if not resource.startswith(_KEY):
                continue
            key = resource[len(_KEY) :]
            if self._tag is not None and tag_of(key) != self._tag:
                raise KeyMismatch(key)
            writes |= action != "read"
            if first is None:
                first, slot = key, slot_of(key)
            elif self._moved_slot is None and tag_of(key) != tag_of(first):
                if self._table is not None:
                    raise CrossSlot(first, key)
            elif self._moved_slot is not None and slot_of(key) != slot:
                raise CrossSlot(first, key)
        if first is not None and self._table is not None and slot != self._moved_slot:
            self._table.require(slot, writes=writes)
