"""Making the store's second form of the first, in which records have no checksums.

One transaction: readers see the first form, which they refuse, or all of the second. The checksums
attest what is found, for the first form says nothing of what it should be.
"""

from __future__ import annotations

import logging
from typing import Any

import lmdb

from synap.store.environment import Environment
from synap.store.layout import (
    POSITION_KEY,
    RECORD,
    decode_applied,
    encode_applied,
    encode_record,
    is_first_form,
)

logger = logging.getLogger(__name__)

# Records that are in memory at once.
_BATCH_RECORDS = 1000


def upgrade(environment: Environment) -> bool:
    """Give every record of a store of the first form its checksum; say whether it was one.

    Raises:
        DiskFull, MemoryLimit: there is no room for it; nothing changed.
    """
    transaction = environment.begin_write()
    try:
        raw = transaction.get(POSITION_KEY)
        if raw is None or not is_first_form(raw):
            transaction.abort()
            return False
        for database in (environment.keys, environment.accounts):
            _rewrite(environment, transaction, database)
        transaction.put(POSITION_KEY, encode_applied(decode_applied(raw)))
        transaction.commit()
    except lmdb.Error as error:
        transaction.abort()
        raise environment.translate(error) from error
    logger.warning(
        "the live store's records have checksums from now on; programs before this one can't "
        "read it",
        extra={"action": "store_upgraded"},
    )
    return True


def _rewrite(environment: Environment, transaction: lmdb.Transaction[bytes], database: Any) -> None:
    cursor = transaction.cursor(database)
    place = b""
    while cursor.set_range(place) if place else cursor.first():
        items = [item for item, _ in zip(cursor.iternext(), range(_BATCH_RECORDS), strict=False)]
        environment.have_room(len(items), sum(len(key) + len(raw) for key, raw in items))
        cursor.putmulti([(key, _with_checksum(key, raw)) for key, raw in items])
        place = items[-1][0] + b"\0"


def _with_checksum(key: bytes, raw: bytes) -> bytes:
    version, expiry_ms = RECORD.unpack_from(raw)
    return encode_record(key, version, expiry_ms, raw[RECORD.size :])
