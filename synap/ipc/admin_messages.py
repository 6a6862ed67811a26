"""What asks the log's owner for work of its own: snapshots, changes of role, pauses of the writes.

It goes over a socket of its own (`synap.ipc.admin_socket`), so that the writes' path knows nothing
of it. Each message is framed as those of `synap.ipc.messages` are.
"""

from __future__ import annotations

import msgspec

# Of a pause; longer than any switchover that is worth waiting for.
MAX_PAUSE_SECONDS = 60.0


class TakeSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Take a snapshot that holds all that is in the log now."""


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A durable, verified snapshot.

    Attributes:
        offset: Last offset in it.
        path: Its image.
    """

    offset: int
    path: str


class VerifyStore(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Look at every record of the live store."""


class StoreVerified(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Every record was looked at; those that are damaged are being mended.

    Attributes:
        records: Their number.
        bytes: Their bytes.
        damaged: How many are damaged.
        differing: On a replica, how many are not those of its master at one offset.
    """

    records: int
    bytes: int
    damaged: int
    differing: int = 0


class ReportDamage(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Mend the records of keys, which somebody found damaged.

    Attributes:
        keys: In whatever space.
    """

    keys: list[bytes]


class DamageReported(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """It is known."""


class Promote(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Become a master, in a reign of its own.

    Attributes:
        force: Also where that loses something.
        epoch: The reign's number, which was sealed before; 0 for the next one.
    """

    force: bool
    epoch: int = 0


class Seal(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Acknowledge nothing of a reign below an epoch any more, and tell what is held.

    Attributes:
        epoch: Number of the reign that is to begin.
        candidate: `server.node_id` of the node that begins it.
    """

    epoch: int
    candidate: str


class Follow(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Become a replica.

    Attributes:
        master_address: The master's PUB socket.
        master_sync_address: Its ROUTER socket.
        force: Also where that loses something.
    """

    master_address: str
    master_sync_address: str
    force: bool


class AcceptMaster(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Give a diverged replica's data up for its master's."""


class MasterAccepted(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The replica fetches its master's snapshot; its own data is put aside when that is whole.

    Attributes:
        directory: Where its own data will be.
    """

    directory: str


class PauseWrites(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """Log nothing for a while; writes wait.

    Attributes:
        seconds: How long at most; it ends by itself.
    """

    seconds: float


class ResumeWrites(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """End the pause; a reign that was given up stays so."""


class StepDown(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """Give up the reign, in a pause.

    Attributes:
        offset: Where the log must end.
        heir_url: Where clients will reach the next master; empty where that is unknown.
    """

    offset: int
    heir_url: str = ""


class GrantLease(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """Have a master take writes until a time.

    Attributes:
        until_ns: CLOCK_BOOTTIME; 0 takes its lease away.
        voters: The replicas whose acks count for a quorum; None for all.
        alone_until_ns: CLOCK_BOOTTIME until which no other node can be the master; 0 for unknown.
    """

    until_ns: int
    voters: tuple[str, ...] | None = None
    alone_until_ns: int = 0


class LeaseHeld(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """It does.

    Attributes:
        epoch: Number of its reign.
        held_offset: The last offset that so many replicas hold as each write waits for; where none
            is waited for, the end of the log.
    """

    epoch: int
    held_offset: int


class ConfirmClock(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """Have deadlines follow a jump of the machine's clock."""


class ClockConfirmed(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """They do.

    Attributes:
        seconds: How far the clock went ahead; 0 where it had not jumped.
    """

    seconds: float


class ForgetReplica(msgspec.Struct, frozen=True, array_like=True, tag=50):
    """Have a master forget a replica that is gone for good.

    Attributes:
        name: Its `server.node_id`.
    """

    name: str


class ReplicaForgotten(msgspec.Struct, frozen=True, array_like=True, tag=50):
    """It is known no more, here and in what a restart reads.

    Attributes:
        name: Its `server.node_id`.
    """

    name: str


class PauseState(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """How the writes of a master stand.

    Attributes:
        offset: Where the log ends.
        epoch: Number of its reign.
        seconds: How long the pause lasts yet; 0 for none.
    """

    offset: int
    epoch: int
    seconds: float


class RoleTaken(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The role that a node has from now on; where it changed, its owner is being replaced.

    Attributes:
        role: `master` or `replica`.
        epoch: Number of the newest reign.
        offset: Where the log ends.
        is_changed: Whether the owner is being replaced.
        lost: What was given up by force; a sentence each.
    """

    role: str
    epoch: int
    offset: int
    is_changed: bool
    lost: tuple[str, ...] = ()


class SealKept(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The promise is durable.

    Attributes:
        epoch: What was promised.
        rank: What the node's data is worth, as `synap.replication.rules.reigns.Rank`.
    """

    epoch: int
    rank: tuple[int, int, int]


PauseCommand = PauseWrites | ResumeWrites | StepDown
StoreCommand = VerifyStore | ReportDamage
EngineCommand = AcceptMaster | ConfirmClock | GrantLease | PauseCommand
AdminCommand = TakeSnapshot | StoreCommand | Promote | Follow | Seal | ForgetReplica | EngineCommand


class AdminRequest(msgspec.Struct, frozen=True, array_like=True):
    """Work for the log's owner itself; alone on a connection to the admin socket.

    Attributes:
        command: What to do.
    """

    command: AdminCommand


StoreResult = StoreVerified | DamageReported
EngineResult = MasterAccepted | ClockConfirmed | LeaseHeld | PauseState
AdminResult = SnapshotTaken | StoreResult | RoleTaken | SealKept | ReplicaForgotten | EngineResult


class AdminAnswer(msgspec.Struct, frozen=True, array_like=True):
    """What became of it.

    Attributes:
        result: What was made; None with an error.
        error: Class name of the error; empty where there was none.
        message: The error's message.
    """

    result: AdminResult | None = None
    error: str = ""
    message: str = ""
