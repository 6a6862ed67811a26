"""What a publisher tells people of its replicas: lines of the log, rows of the status."""

from __future__ import annotations

import logging

from synap.addresses import reachable_url
from synap.replication.rules.messages import DIVERGED, NEEDS_FULL_RESYNC, Hello
from synap.replication.rules.plan import CatchUp, Diverged, Plan
from synap.replication.rules.roster import ReplicaProgress
from synap.shared.board import ReplicaFacts

logger = logging.getLogger(__name__)


def facts_of(replica: ReplicaProgress) -> ReplicaFacts:
    """Return the row of a replica."""
    return ReplicaFacts(
        id=replica.id,
        address=replica.address,
        offset=replica.offset,
        lag_entries=replica.lag_entries,
        lag_ms=replica.lag_ms,
        status=replica.status.value,
        last_ack=replica.last_ack_ms,
        url=reachable_url(replica.url, replica.address),
        note=replica.note,
        epoch=replica.epoch,
        version=replica.version,
        snapshot_at_ms=replica.snapshot_ms,
    )


def tell_answer(hello: Hello, address: str, answer: Plan) -> None:
    """Log what a replica gets that said hello."""
    fields = {"replica": hello.replica, "offset": hello.position.offset}
    if isinstance(answer, CatchUp):
        logger.info(
            "replica %s at %s joins at %s", hello.replica, address, hello.position,
            extra={"action": "catch_up", **fields},
        )  # fmt: skip
    else:
        action = DIVERGED if isinstance(answer, Diverged) else NEEDS_FULL_RESYNC
        logger.warning(
            "replica %s at %s is refused: %s", hello.replica, address, answer.reason,
            extra={"action": action, **fields},
        )  # fmt: skip
