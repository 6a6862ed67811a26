"""Kubernetes' API server as the engine: Leases, and compare-and-set by `resourceVersion`.

One Lease holds all that the cluster has agreed on, in an annotation, and its `spec` is the leader's
lease: so a change of keys is one replacement of one object, which the server refuses where the
object has another `resourceVersion` by then. Each node has a Lease of its own beside it.

The server ends no lease. Whoever looks counts for how long, by its own clock, it has seen no
renewal; a holder counts from before it asked for one, and so stops first. A renewal replaces the
same object that the key is in, so a node that takes a key that looks dead is refused where it was
renewed meanwhile.

Source: docs/operations.md, "Fail-over by itself"; after client-go's leaderelection.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import msgspec

from synap.failover.engine import Delete, EngineFailed, Item, Put, Unchanged
from synap.failover.wire import exchange

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its service account's `token`, `ca.crt` and `namespace`."""
POD_ENDPOINT = "https://kubernetes.default.svc"
"""The API server, by the name that its certificate has in each pod."""

_STATE = "synap-state"
_LABEL = "synap-cluster"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_MEMBERS = "members/"
_LEADER = "leader"
_CONFLICT_SECONDS = 0.02
_NS = 1_000_000_000
# What `grant` makes; anybody with rights to Leases can write something else.
_LEASE = re.compile("[0-9]{1,19}")

Lease = dict[str, Any]
"""The object, as the server sends it; what others have written into it stays."""


class Kept(msgspec.Struct, frozen=True):
    """A key's value in the annotation; the fields are those of `Item`."""

    value: str
    created: int
    changed: int
    lease: int = 0


class State(msgspec.Struct, frozen=True):
    """What the cluster has agreed on.

    Attributes:
        revision: Of the last change.
        keys: By their names below the cluster's.
    """

    revision: int = 0
    keys: dict[str, Kept] = {}


class _Metadata(msgspec.Struct):
    name: str
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    renew_time: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec | None = None


class _List(msgspec.Struct):
    items: list[_Object]


class Kubernetes:
    """The client. Its calls block, each for `timeout_seconds` at most."""

    def __init__(
        self,
        endpoint: str,
        namespace: str,
        cluster: str,
        timeout_seconds: float,
        *,
        node: str = "",
        token_path: Path | None = None,
        tls: ssl.SSLContext | None = None,
        now_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        """
        Args:
            endpoint: URL of the API server.
            namespace: Where the Leases are.
            cluster: Its name, a part of theirs.
            timeout_seconds: Deadline of one call.
            node: Whose agent this is; empty for a command, which takes part in nothing.
            token_path: The service account's; read anew for each request, as it is replaced.
            tls: For https; None for the system's authorities.
            now_ns: The clock that leases go by.
        """
        self._endpoint = endpoint
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"
        self._cluster = cluster
        self._root = f"/synap/{cluster}/"
        self._timeout_seconds = timeout_seconds
        self._node = node
        self._token_path = token_path
        self._tls = tls
        self._now_ns = now_ns
        self._lease = self._ttl_seconds = 0
        # The leader's key was put with that lease, and not removed since by this client.
        self._leads = False
        # Whose last renewal was seen first when, by this clock, under the object's name.
        self._seen: dict[str, tuple[tuple[str, str], int]] = {}

    def grant(self, ttl_seconds: int) -> tuple[int, int]:
        """Return a new lease and its time; the server hears of it with the first key."""
        self._lease, self._ttl_seconds = secrets.randbits(62) + 1, ttl_seconds
        self._leads = False
        return self._lease, ttl_seconds

    def keep_alive(self, lease: int) -> int:
        """Renew a lease; return for how many seconds, 0 where it is gone.

        Raises:
            EngineFailed: the server does not answer, or refuses.
        """
        if lease != self._lease:
            return 0
        deadline = self._deadline()
        # Without the key there is nothing that keeps others from leading, whatever else goes on.
        if self._leads and not self._renew(self._name(), deadline):
            return 0
        own = self._find(self._name(self._node), deadline)
        if own is not None and _holder(own) == str(lease):
            self._renew(self._name(self._node), deadline)
        return self._ttl_seconds

    def read(self, *spans: tuple[str, str]) -> dict[str, Item]:
        """Return what is there from each first key up to, and without, the second.

        Raises:
            EngineFailed: the server does not answer, or refuses.
        """
        selector = quote(f"{_LABEL}={self._cluster}")
        path = f"{self._folder}?labelSelector={selector}"
        answer = self._ask("GET", path, self._deadline(), kind=_List)
        now_ns = self._now_ns()
        found: dict[str, Item] = {}
        leases: set[int] = set()
        state: Lease | None = None
        for each in (answer or {}).get("items", []):
            name = each["metadata"]["name"]
            if name == self._name():
                state = each
            elif self._lives(each, now_ns):
                leases.add(int(_holder(each)))
                # What one node wrote into its own is not to keep the others from the rest.
                with suppress(EngineFailed):
                    found |= self._items(_state_of(each))
        found |= self._items(self._living(state, now_ns, leases))
        return {
            key: item
            for key, item in found.items()
            if any(first <= key < end for first, end in spans)
        }

    def change(self, conditions: Sequence[Unchanged], effects: Sequence[Put | Delete]) -> bool:
        """Have all effects take place where all conditions hold; say whether they did.

        All are keys of the cluster, or all are one node's own.

        Raises:
            EngineFailed: the server does not answer, or refuses; what became of it is unknown.
        """
        names = [each.key.removeprefix(self._root) for each in (*conditions, *effects)]
        owners = {n.removeprefix(_MEMBERS) if n.startswith(_MEMBERS) else "" for n in names}
        if len(owners) != 1:
            raise ValueError(f"{', '.join(names)} are not in one object")
        name = self._name(owners.pop())
        deadline = self._deadline()
        while True:
            there = self._find(name, deadline)
            state = _state_of(there)
            living = self._living(there, self._now_ns(), None)
            if any(self._revision_of(living, each.key) != each.revision for each in conditions):
                return False
            changed = self._changed(state, living, effects)
            wanted = self._with_spec(self._object(name, there), changed, effects)
            if self._replace(name, wanted, deadline, is_new=there is None):
                self._note_leader(effects)
                return True

    def _note_leader(self, effects: Sequence[Put | Delete]) -> None:
        for effect in effects:
            if effect.key == self._root + _LEADER:
                self._leads = isinstance(effect, Put) and effect.lease == self._lease

    def _changed(self, state: State, living: State, effects: Sequence[Put | Delete]) -> State:
        """Return the state after the effects; one that is dead is created anew."""
        revision, keys = state.revision + 1, dict(state.keys)
        for effect in effects:
            name = effect.key.removeprefix(self._root)
            before = living.keys.get(name)
            keys.pop(name, None)
            if isinstance(effect, Put):
                created = before.created if before is not None else revision
                keys[name] = Kept(effect.value.decode(), created, revision, effect.lease)
        return State(revision, keys)

    def _with_spec(self, wanted: Lease, state: State, effects: Sequence[Put | Delete]) -> Lease:
        """Return the object with a state in it, and the lease that goes with what was put."""
        wanted["metadata"]["annotations"][_STATE] = msgspec.json.encode(state).decode()
        spec = wanted["spec"]
        for effect in effects:
            name = effect.key.removeprefix(self._root)
            if name != _LEADER and not name.startswith(_MEMBERS):
                continue
            lease = effect.lease if isinstance(effect, Put) else 0
            if str(lease or "") == spec.get("holderIdentity", ""):
                continue
            now = datetime.now(UTC).strftime(_TIME)
            spec["holderIdentity"] = str(lease or "")
            if lease:
                spec |= {"acquireTime": now, "renewTime": now}
                spec["leaseDurationSeconds"] = self._ttl_seconds
                spec["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1
        return wanted

    def _renew(self, name: str, deadline: float) -> bool:
        """Renew what this lease holds; say whether it still did."""
        while True:
            there = self._find(name, deadline)
            if there is None or _holder(there) != str(self._lease):
                return False
            wanted = self._object(name, there)
            wanted["spec"]["renewTime"] = _later(there["spec"].get("renewTime", ""))
            if self._replace(name, wanted, deadline, is_new=False):
                return True

    def _lives(self, there: Lease, now_ns: int) -> bool:
        """Say whether an object's lease was seen renewed within its time.

        Args:
            now_ns: The clock, after the object came.
        """
        name, spec = there["metadata"]["name"], there.get("spec") or {}
        mark = (_holder(there), str(spec.get("renewTime", "")))
        is_old_own = name == self._name(self._node) and mark[0] != str(self._lease)
        if not _LEASE.fullmatch(mark[0]) or (self._node and is_old_own):
            return False
        known = self._seen.get(name)
        if known is None or known[0] != mark:
            # A command has seen nothing before: it has to believe the other's clock.
            age_ns = 0 if self._node else _age_ns(mark[1])
            known = self._seen[name] = (mark, now_ns - age_ns)
        return now_ns - known[1] < int(spec.get("leaseDurationSeconds") or 0) * _NS

    def _living(self, there: Lease | None, now_ns: int, leases: set[int] | None) -> State:
        """Return the cluster's state without what went with a lease that is over.

        Args:
            leases: Those of the nodes that are there; None where nobody asked.
        """
        state = _state_of(there)
        is_led = there is not None and self._lives(there, now_ns)

        def lives(name: str, kept: Kept) -> bool:
            if name == _LEADER:
                return is_led and there is not None and _holder(there) == str(kept.lease)
            return not kept.lease or leases is None or kept.lease in leases

        return State(state.revision, {n: kept for n, kept in state.keys.items() if lives(n, kept)})

    def _revision_of(self, state: State, key: str) -> int:
        kept = state.keys.get(key.removeprefix(self._root))
        return kept.changed if kept is not None else 0

    def _items(self, state: State) -> dict[str, Item]:
        return {
            self._root + name: Item(kept.value.encode(), kept.created, kept.changed, kept.lease)
            for name, kept in state.keys.items()
        }

    def _name(self, node: str = "") -> str:
        """Return the name of the cluster's object, or of a node's, which may be called anything."""
        name = f"synap-{self._cluster}"
        return f"{name}-{hashlib.sha256(node.encode()).hexdigest()[:16]}" if node else name

    def _object(self, name: str, there: Lease | None) -> Lease:
        """Return an object to change: a copy of the one that is there, or a new one."""
        wanted: Lease = json.loads(json.dumps(there or {}))
        wanted |= {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        metadata = wanted.setdefault("metadata", {})
        metadata["name"] = name
        metadata["labels"] = (metadata.get("labels") or {}) | {_LABEL: self._cluster}
        metadata["annotations"] = metadata.get("annotations") or {}
        wanted["spec"] = wanted.get("spec") or {}
        return wanted

    # The three calls.

    def _find(self, name: str, deadline: float) -> Lease | None:
        return self._ask("GET", f"{self._folder}/{name}", deadline)

    def _replace(self, name: str, wanted: Lease, deadline: float, *, is_new: bool) -> bool:
        """Replace an object by one made of it; say whether nobody else had changed it."""
        method, path = ("POST", self._folder) if is_new else ("PUT", f"{self._folder}/{name}")
        if self._ask(method, path, deadline, wanted) is not None:
            return True
        time.sleep(_CONFLICT_SECONDS)
        return False

    def _ask(
        self,
        method: str,
        path: str,
        deadline: float,
        body: Lease | None = None,
        kind: type[_Object | _List] = _Object,
    ) -> Lease | None:
        """Send a request; return what is of `kind`, None for one that is absent or has changed."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise EngineFailed(f"{self._endpoint}: no answer in time")
        content = None if body is None else json.dumps(body).encode()
        try:
            status, answer = exchange(
                self._endpoint, method, path, content, self._headers(), seconds, self._tls
            )
            found = json.loads(answer or b"{}")
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            raise EngineFailed(f"{self._endpoint}: {error or type(error).__name__}") from error
        absent = {"GET": (404,), "PUT": (404, 409), "POST": (409,)}[method]
        if status in absent:
            return None
        if status in (200, 201):
            return _checked(found, kind)
        message = found.get("message", "") if isinstance(found, dict) else ""
        raise EngineFailed(f"{self._endpoint}: {status} {message}")

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token_path is not None:
            headers["Authorization"] = f"Bearer {self._token_path.read_text().strip()}"
        return headers

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_seconds


def _checked(found: Any, kind: type[_Object | _List]) -> Lease:
    """Return an object, or a list of them, that is one.

    Raises:
        EngineFailed: it is none.
    """
    try:
        msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise EngineFailed(f"the API server's answer is no Lease: {error}") from error
    return cast(Lease, found)


def _holder(there: Lease) -> str:
    return str((there.get("spec") or {}).get("holderIdentity") or "")


def _state_of(there: Lease | None) -> State:
    """Return what an object's annotation says; nothing where somebody else has written it."""
    annotations = ((there or {}).get("metadata") or {}).get("annotations") or {}
    try:
        return msgspec.json.decode(annotations.get(_STATE, "{}"), type=State)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineFailed(f"the annotation {_STATE} can't be read: {error}") from error


def _later(before: str) -> str:
    """Return the wall clock, and another time than before in any case: it shows a renewal."""
    now = datetime.now(UTC)
    if now.strftime(_TIME) == before:
        now += timedelta(microseconds=1)
    return now.strftime(_TIME)


def _age_ns(renewed: str) -> int:
    try:
        age = datetime.now(UTC) - datetime.strptime(renewed, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return 0
    return max(0, int(age.total_seconds() * _NS))
