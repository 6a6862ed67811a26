"""The commands that change keys, and what they result in.

A command is what a client wants; evaluating it against the keys as they are gives its effects
(puts and removals) and its result. Only the effects are logged, so that replay is idempotent. The
keys come in as a `Keyspace` and the time as `now_ms`: no store, no socket, no clock. The writer
evaluates commands inside its LMDB transaction, HTTP workers build them. What a key holds, and when
it is gone, is in `records`.

A command also knows what a caller must be allowed for it, what it counts as and its size; what each
of them is asked is in `keyspace`, at BaseCommand.
"""

from __future__ import annotations

from synap.commands.accounts import ChangeAccounts
from synap.commands.confirm import Confirm
from synap.commands.keys import Copy, Delete, Expire, Flush, Persist, Rename, SetMany
from synap.commands.slots import BringRequests, ChangeSlot, ClearSlot
from synap.commands.strings import (
    Append,
    GetSet,
    Increment,
    IncrementFloat,
    Set,
    SetRange,
    SetResult,
)
from synap.commands.txn import Txn, TxnResult

Command = (
    Set | Delete | Increment | IncrementFloat | Append | SetRange | GetSet
    | Expire | Persist | SetMany | Rename | Copy | Flush | ChangeAccounts
    | Confirm | Txn | ChangeSlot | ClearSlot | BringRequests
)  # fmt: skip
Result = SetResult | TxnResult | int | bool | bytes | None
