"""Requests and slots: which keys a request may be about, by what it says and by what is here.

A load balancer can't read every key: `X-Synap-Key` names it then, and is held against the request,
so that one which was sent to the wrong cluster is refused and not done there. Installed on every
node; on one without `sharding.slots` only that header is looked at.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from falcon.asgi import Response

from synap.http.api.headers import MOVED_SLOT, SLOT_KEY
from synap.http.api.request import Request
from synap.request_errors import InvalidRequest
from synap.service.slot_table import SlotRule, SlotTable
from synap.slots import SLOTS, tag_of


class SlotGuard:
    """Falcon's middleware; it stands behind the one that knows who asks."""

    def __init__(self, table: SlotTable | None) -> None:
        """
        Args:
            table: Which slots are here; None where all are.
        """
        self._table = table
        self._rule = None if table is None else SlotRule(table)

    async def process_request(self, req: Request, resp: Response) -> None:
        """Bind the caller to the keys that the request may be about.

        Raises:
            Forbidden: it is to move a slot, and who asks may not.
            InvalidRequest: a header is of the wrong form.
        """
        headers = req.raw_headers
        rule = self._rule
        if SLOT_KEY in headers or MOVED_SLOT in headers:
            tag = tag_of(unquote_to_bytes(headers[SLOT_KEY])) if SLOT_KEY in headers else None
            moved = None
            if MOVED_SLOT in headers:
                req.caller.require("admin", b"node:slots")
                moved = _slot(headers[MOVED_SLOT])
            rule = SlotRule(self._table, tag, moved)
        if rule is not None:
            req.caller = req.caller.bound(rule)


def _slot(text: bytes) -> int:
    if text.isdigit() and len(text) <= 4 and int(text) < SLOTS:
        return int(text)
    raise InvalidRequest(f"header X-Synap-Move-Slot is not from 0 to {SLOTS - 1}")
