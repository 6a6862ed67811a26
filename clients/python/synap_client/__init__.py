"""A client of Synap clusters that knows their nodes.

`Client` and `AsyncClient` have the calls; `ClusterTransport` and `AsyncClusterTransport` bring an
httpx client, or what stands on one, to a cluster. The map, from the easiest file up: `errors`,
`rules` (what is decided, without sockets), `transport`, `commands` and `txn` (each call as a
value), `watching` (the change feed), `client`.
"""

from synap_client import txn
from synap_client.client import AsyncClient, Client
from synap_client.commands import Page, TxnResult, Value
from synap_client.errors import (
    NotForACluster,
    OutcomeUnknown,
    PositionLost,
    Refused,
    ResultNotKept,
    SynapClientError,
    Unreachable,
    WatchReset,
)
from synap_client.transport import AsyncClusterTransport, ClusterTransport, Options
from synap_client.watching import (
    Begin,
    Change,
    Entry,
    Event,
    Flushed,
    KeyDeleted,
    KeySet,
    Progress,
    Synced,
    Watched,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient", "AsyncClusterTransport", "Begin", "Change", "Client", "ClusterTransport",
    "Entry", "Event", "Flushed", "KeyDeleted", "KeySet", "NotForACluster", "Options",
    "OutcomeUnknown", "Page", "PositionLost", "Progress", "Refused", "ResultNotKept",
    "SynapClientError", "Synced", "TxnResult", "Unreachable", "Value", "WatchReset", "Watched",
    "txn",
]  # fmt: skip
