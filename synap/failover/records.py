"""What the nodes of a cluster tell each other at the engine: the values of its keys, in JSON.

Below `/synap/<cluster>/`: `leader` and `members/<id>` go with a node's lease; `epoch`, `config` and
`history/<epoch>` stay; `handover` and `wanted` are steps of a planned change.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from synap.failover.engine import Item
from synap.failover.rules import Handover, Leader, Member, Settings, View

Record = TypeVar("Record")
KEPT_HISTORY = 100


class Turn(msgspec.Struct, frozen=True):
    """A line of the history.

    Attributes:
        epoch: Number of the reign.
        id: `server.node_id` of its master.
        at_ms: Wall clock.
        why: What it took the last one's place for.
        offset: Where its log ended.
        lost: What was given up, a sentence; empty for nothing.
    """

    epoch: int
    id: str
    at_ms: int
    why: str
    offset: int
    lost: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """An operator's wish for another master.

    Attributes:
        to: `server.node_id` of it.
    """

    to: str


class Keys:
    """The names of a cluster's keys."""

    def __init__(self, cluster: str) -> None:
        self.root = f"/synap/{cluster}/"
        self.leader = self.root + "leader"
        self.epoch = self.root + "epoch"
        self.config = self.root + "config"
        self.handover = self.root + "handover"
        self.wanted = self.root + "wanted"
        # All but the history, in two pieces.
        self.state = ((self.root + "c", self.root + "history"), (self.root + "l", self.root + "x"))
        self.past = ((self.root + "history/", self.root + "history0"),)

    def member(self, name: str) -> str:
        """Return the key of a node."""
        return f"{self.root}members/{name}"

    def turn(self, epoch: int) -> str:
        """Return the key of a line of the history."""
        return f"{self.root}history/{epoch:020d}"


def encoded(record: msgspec.Struct) -> bytes:
    """Return a value."""
    return msgspec.json.encode(record)


def decoded(item: Item | None, kind: type[Record]) -> Record | None:
    """Return a value; None where there is none, or none of that kind."""
    if item is None:
        return None
    try:
        return msgspec.json.decode(item.value, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return None


def view_of(items: dict[str, Item], keys: Keys) -> View:
    """Return what the keys say of the cluster."""
    leader = items.get(keys.leader)
    members = {}
    for key, item in items.items():
        if key.startswith(keys.root + "members/"):
            member = decoded(item, Member)
            if member is not None:
                members[member.id] = member
    epoch = items.get(keys.epoch)
    handover = decoded(items.get(keys.handover), Handover)
    wanted = decoded(items.get(keys.wanted), Wanted)
    return View(
        leader=decoded(leader, Leader),
        leader_lease=leader.lease if leader is not None else 0,
        is_taken=leader is not None,
        members=members,
        epoch=int(epoch.value) if epoch is not None and epoch.value.isdigit() else 0,
        settings=decoded(items.get(keys.config), Settings),
        handover=handover,
        wanted=wanted.to if wanted is not None else "",
        revisions={key: item.changed for key, item in items.items()},
    )
