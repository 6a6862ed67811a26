"""Moving a slot from one cluster to another while both serve: nothing lost, nothing told twice.

    1  the new cluster expects the slot, and what it has of it goes
    2  the old one's keys of the slot are copied, as they are at one position
    3  what is changed since is followed
    4  the old cluster takes no writes of the slot for a moment, by itself no longer than seconds
    5  the rest is followed, up to the position of that, by which the freeze is named; the new
       cluster is told that name, and says whether it still has all that it was sent
    6  the old cluster gives the slot away, if that freeze has not ended: from here on there is no
       way back
    7  what the old one remembers of the slot's requests (Idempotency-Key) is told the new one,
       which takes the slot, if it has the keys up to that name
    8  the load balancers send its keys there
    9  the old cluster's copies go

All that is known between two steps is in the clusters, durably: whoever comes again, after whatever
was killed, goes on from there. Before the sixth step `undo` leaves everything as it was. Each step
waits for the replicas that its cluster has, so that whichever of them is promoted knows of it. One
that was cut off knows less, and then the steps don't follow: what it lacks is copied anew, from the
old cluster, which keeps its keys up to the ninth step.

The engine knows the clusters by their HTTP API alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from synap.slots import slot_of
from workers.cli.http_call import CallFailed, CallRefused

MOVED_SLOT = "X-Synap-Move-Slot"
# While a node is down, or another one takes over, a call is tried again for so long.
_RETRY_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_ANSWER_SECONDS = 10.0
# How long the old cluster refuses writes by itself: the rest is followed in much less.
_FREEZE_MS = 3000
_EVENTS = 1000
_PIECE_BYTES = 512 * 1024
_PIECE_KEYS = 1000
# So often writes are held back before somebody has to look why the rest does not come in time.
_TRIES = 5

Found = TypeVar("Found")


class MoveFailed(Exception):
    """The slot was not moved, or not wholly; the message says how things stand."""


class _Reset(Exception):
    """What was copied is copied anew; the message says why."""


class Http(Protocol):
    """Calls to the nodes. `workers.cli.http_call` has them."""

    def get(self, url: str, path: str, headers: dict[str, str], seconds: float) -> dict[str, Any]:
        """Return the answer to a GET; raise CallFailed without one."""

    def post(
        self, url: str, path: str, body: bytes, headers: dict[str, str], seconds: float
    ) -> dict[str, Any]:
        """Return the answer to a POST; raise CallFailed without one, CallRefused for an error."""

    def lines(self, url: str, path: str, headers: dict[str, str]) -> Iterator[bytes]:
        """Yield the lines of the answer to a GET; raise CallFailed where it is cut."""


class Cluster:
    """One cluster, by the nodes that the operator named: whichever of them serves."""

    def __init__(
        self,
        http: Http,
        urls: Sequence[str],
        slot: int,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            http: Reaches the nodes.
            urls: Of its nodes, the likely master first; at least one.
            slot: What is moved.
        """
        self._http = http
        self._urls = list(urls)
        self._headers = {MOVED_SLOT: str(slot)}
        self._slot = slot
        self._now = now
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The node that served last."""
        return self._urls[0]

    def slots(self) -> dict[str, Any]:
        """Return what its master knows of all slots."""

        def ask(url: str) -> dict[str, Any]:
            if self._get(url, "/health/replication")["role"] == "replica":
                raise CallFailed(f"{url} is a replica, which may know less than its master")
            return self._get(url, "/cluster/slots")

        return self._tried(ask)

    def step(self, step: str, **more: object) -> dict[str, Any]:
        """Take a step of the move at its master, and wait for the replicas that it has."""
        body = json.dumps({"slot": self._slot, "step": step, **more}).encode()

        def ask(url: str) -> dict[str, Any]:
            headers = {**self._headers, "Content-Type": "application/json"}
            if replicas := self._replicas(url):
                headers["X-Synap-Min-Replicas"] = str(replicas)
            return self._http.post(url, "/cluster/slots/step", body, headers, _ANSWER_SECONDS)

        return self._tried(ask)

    def _replicas(self, url: str) -> int:
        """Return how many replicas a node's writes can wait for; none where it is no master."""
        told = self._get(url, "/health/replication")
        if told["role"] != "master":
            return 0
        return sum(each["status"] != "disconnected" for each in told["replicas"])

    def clear(self, keys: Sequence[str]) -> None:
        """Remove keys of the slot, which is not this cluster's, or not yet."""
        for at in range(0, len(keys), _PIECE_KEYS):
            piece = {"slot": self._slot, "keys": list(keys[at : at + _PIECE_KEYS])}
            self._post("/cluster/slots/clear", piece)

    def write(self, lines: Sequence[bytes]) -> None:
        """Write keys of the slot, as lines of an export."""
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if piece and (size + len(line) > _PIECE_BYTES or len(piece) == _PIECE_KEYS):
                self._write_piece(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        if piece:
            self._write_piece(piece)

    def export(self, prefix: str = "", after: str = "") -> tuple[str, list[bytes]]:
        """Return a position, and the slot's keys there as lines.

        Args:
            prefix: What the keys begin with.
            after: A position that what is exported must have reached; empty for any.
        """
        headers = self._headers | ({"X-Synap-Min-Position": after} if after else {})
        path = f"/kv/export?slot={self._slot}&prefix={quote(prefix, safe='')}"

        def fetch(url: str) -> tuple[str, list[bytes]]:
            lines = list(self._http.lines(url, path, headers))
            if len(lines) < 2 or b'"end":true' not in lines[-1]:
                raise CallFailed(f"{url}: the export was cut")
            return json.loads(lines[0])["position"], lines[1:-1]

        return self._tried(fetch)

    def requests(self, after: str) -> Iterator[list[dict[str, Any]]]:
        """Yield what is remembered of the slot's requests, as much at a time as a node tells.

        Args:
            after: A position that must have been reached.
        """
        headers = self._headers | {"X-Synap-Min-Position": after}
        query: dict[str, object] = {"slot": self._slot}

        def ask(url: str) -> dict[str, Any]:
            path = f"/cluster/slots/requests?{urlencode(query)}"
            return self._http.get(url, path, headers, _ANSWER_SECONDS)

        while True:
            told = self._tried(ask)
            if told["records"]:
                yield told["records"]
            if told["next"] is None:
                return
            query["after"] = told["next"]

    def remember(self, records: list[dict[str, Any]]) -> None:
        """Have the cluster remember requests of another one's."""
        self._post("/cluster/slots/requests", {"slot": self._slot, "records": records})

    def changes(self, position: str) -> dict[str, Any]:
        """Return what happened after a position."""
        query = urlencode({"from": position, "wait": 0, "limit": _EVENTS})
        try:
            return self._tried(lambda url: self._get(url, f"/watch?{query}"))
        except CallRefused as refused:
            if "oldest" in refused.facts:
                raise _Reset("the old cluster's log was cut by a fail-over") from refused
            raise

    def _write_piece(self, piece: list[bytes]) -> None:
        body = b"".join(piece)
        self._tried(
            lambda url: self._http.post(url, "/kv/import", body, self._headers, _ANSWER_SECONDS)
        )

    def _get(self, url: str, path: str) -> dict[str, Any]:
        return self._http.get(url, path, self._headers, _ANSWER_SECONDS)

    def _post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        headers = {**self._headers, "Content-Type": "application/json"}
        return self._tried(lambda url: self._http.post(url, path, data, headers, _ANSWER_SECONDS))

    def _tried(self, ask: Callable[[str], Found]) -> Found:
        """Ask one node after the other, for a while; each step may be taken twice without harm."""
        deadline = self._now() + _RETRY_SECONDS
        while True:
            try:
                return ask(self._urls[0])
            except CallFailed as error:
                is_final = isinstance(error, CallRefused) and not error.is_for_now
                if is_final or self._now() > deadline:
                    raise
            self._urls.append(self._urls.pop(0))
            self._sleep(_PAUSE_SECONDS)


class SlotMove:
    """One move. `run` does it, or what is left of it; `undo` takes back what can be."""

    def __init__(
        self,
        source: Cluster,
        target: Cluster,
        slot: int,
        *,
        target_url: str,
        tell: Callable[[str], None],
        switch: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            source: The cluster that has the slot.
            target: The one that is to have it.
            target_url: Where clients reach that one.
            tell: Gets a sentence for each step.
            switch: Has the load balancers send the slot's keys to the cluster of that name.
        """
        self._source = source
        self._target = target
        self._slot = slot
        self._target_url = target_url
        self._tell = tell
        self._switch = switch
        self._now = now
        self._position = ""

    def run(self) -> float:
        """Move the slot; return for how long its writes were away, in seconds.

        Raises:
            MoveFailed: it can't be done, or not now.
            CallFailed: a cluster does not answer; run it again.
        """
        name = self._target.slots()["cluster"]
        away_seconds = 0.0
        if not self._is_own(self._target):
            away_seconds = self._bring(name)
        elif self._is_own(self._source):
            raise MoveFailed(
                f"both clusters say that slot {self._slot} is theirs: a fail-over of the old one "
                "has lost that it was given away (docs/scaling.md)"
            )
        else:
            # Here too the old keys go only where all replicas know whose the slot is.
            self._target.step("take", freeze=self._record(self._target).get("freeze"))
        self._switch(name)
        self._tell(f"slot {self._slot} is at {name}")
        removed = self._clear(self._source)
        self._tell(f"{removed} keys are removed where it was")
        return away_seconds

    def undo(self) -> None:
        """Leave the slot where it was.

        Raises:
            MoveFailed: it was given away already.
        """
        if not self._is_own(self._source):
            raise MoveFailed(
                f"slot {self._slot} was given away already: run the move again, to its end"
            )
        self._source.step("thaw")
        if self._record(self._target).get("state") == "coming":
            self._clear(self._target)
            self._target.step("drop")

    def _bring(self, name: str) -> float:
        began = self._now()
        if self._is_own(self._source):
            began, freeze = self._copy_and_give(name)
        else:
            freeze = self._given(name)
        self._take(freeze)
        return self._now() - began

    def _take(self, freeze: str) -> None:
        """Have the new cluster take the slot, with what the old one remembers of requests.

        That comes last: what the old one may still lose in a fail-over must not be remembered.
        """
        for _ in range(_TRIES):
            filled = self._target.step("fill", freeze=freeze)
            self._done(filled, "the new cluster has lost keys of the slot: run it again")
            for records in self._source.requests(freeze):
                self._target.remember(records)
            if self._target.step("take", freeze=freeze, come=filled["position"])["done"]:
                return
            self._tell("a fail-over of the new cluster came between: telling the requests anew")
        raise MoveFailed("the new cluster's master changes too often; run it again")

    def _copy_and_give(self, name: str) -> tuple[float, str]:
        """Copy the slot's keys and have the old cluster give it away.

        Returns:
            When writes ended, and the position by which the slot was given.
        """
        for _ in range(_TRIES):
            try:
                came = self._copy()
                self._follow("")
                began = self._now()
                frozen = self._source.step("freeze", milliseconds=_FREEZE_MS)
                self._done(frozen, "the old cluster does not hold writes back")
                freeze = str(frozen["position"])
                self._follow(freeze)
                self._fill(came, freeze)
            except _Reset as reset:
                self._tell(f"{reset}: copying anew")
                continue
            given = self._source.step("give", cluster=name, url=self._target_url, freeze=freeze)
            if given["done"]:
                return began, freeze
            self._tell("the rest did not come in time, and writes went on: following them")
        self._source.step("thaw")
        raise MoveFailed(
            f"slot {self._slot} changes too fast, or the clusters are too slow; it is where it was"
        )

    def _given(self, name: str) -> str:
        """Return the position by which the old cluster gave the slot; the new one has it all then.

        Raises:
            MoveFailed: it did not give it to this one, or has nothing to copy any more.
        """
        source, target = self._record(self._source), self._record(self._target)
        if (source.get("state"), source.get("cluster")) != ("given", name):
            raise MoveFailed(
                f"slot {self._slot} is neither cluster's; `synap slots show` says whose it is"
            )
        freeze = source["freeze"]
        if freeze and (target.get("state"), target.get("freeze")) == ("coming", freeze):
            return str(freeze)
        if source["is_cleared"]:
            raise MoveFailed(
                f"the new cluster lost slot {self._slot} after the old one had removed its keys: "
                "have that cluster's other node lead, or restore a backup"
            )
        self._tell("the new cluster does not have all that was given: copying anew")
        for _ in range(_TRIES):
            try:
                came = self._copy(freeze)
                # Nothing of the slot changes where it was given, so any position there will do.
                self._fill(came, freeze or self._position)
            except _Reset as reset:
                self._tell(f"{reset}: copying anew")
                continue
            return str(freeze or self._position)
        raise MoveFailed("the new cluster's master changes too often; run it again")

    def _fill(self, came: str, freeze: str) -> None:
        """Have the new cluster say that it holds all that was sent since `came`."""
        if not self._target.step("fill", come=came, freeze=freeze)["done"]:
            raise _Reset("a fail-over of the new cluster may have lost some of it")

    def _copy(self, after: str = "") -> str:
        """Copy the slot as it is at one position; return the place of the beginning.

        Args:
            after: A position that this one must have reached; empty for any.
        """
        coming = self._target.step("come")
        self._done(coming, "the new cluster does not expect the slot")
        self._clear(self._target)
        self._position, lines = self._source.export(after=after)
        self._target.write(lines)
        self._tell(f"{len(lines)} keys are copied, as of {self._position}")
        return str(coming["position"])

    def _follow(self, until: str) -> None:
        """Take over what was changed, up to a position; up to now where that is empty."""
        while True:
            told = self._source.changes(self._position)
            self._apply(told["events"])
            self._position = told["next"]
            if _offset(self._position) >= _offset(until) and not told["more"]:
                break
        if until and _tag(until) != _tag(self._position):
            # Another node's log, which may lack what came before the freeze.
            raise _Reset("a fail-over of the old cluster came between")

    def _apply(self, events: list[dict[str, Any]]) -> None:
        newest: dict[str, bytes | None] = {}
        for event in events:
            for change in event["changes"]:
                if change["op"] == "flush":
                    self._clear(self._target)
                    newest.clear()
                elif slot_of(change["key"].encode()) == self._slot:
                    newest[change["key"]] = self._line_of(change)
        self._target.clear([key for key, line in newest.items() if line is None])
        self._target.write([line for line in newest.values() if line is not None])

    def _line_of(self, change: dict[str, Any]) -> bytes | None:
        """Return a changed key as the line of an export; None where it is gone."""
        if change["op"] == "del":
            return None
        if change.get("truncated"):
            _, lines = self._source.export(change["key"])
            return next((line for line in lines if json.loads(line)["key"] == change["key"]), None)
        fields = {name: value for name, value in change.items() if name != "op"}
        return json.dumps(fields).encode() + b"\n"

    def _clear(self, cluster: Cluster) -> int:
        _, lines = cluster.export()
        keys = [json.loads(line)["key"] for line in lines]
        cluster.clear(keys)
        return len(keys)

    def _is_own(self, cluster: Cluster) -> bool:
        told = cluster.slots()
        moved = next((each for each in told["moved"] if each["slot"] == self._slot), None)
        if moved is not None:
            return bool(moved["is_own"])
        return any(
            each["cluster"] == told["cluster"] and _holds(each["slots"], self._slot)
            for each in told["slots"]
        )

    def _record(self, cluster: Cluster) -> dict[str, Any]:
        """Return what a cluster knows of the slot beside the configuration, if anything."""
        moved = cluster.slots()["moved"]
        return next((each for each in moved if each["slot"] == self._slot), {})

    def _done(self, answer: dict[str, Any], why: str) -> None:
        if not answer["done"]:
            raise MoveFailed(f"{why}: see `synap slots show` at both")


def _offset(position: str) -> int:
    return int(position.partition("-")[0] or 0)


def _tag(position: str) -> str:
    return position.partition("-")[2]


def _holds(ranges: str, slot: int) -> bool:
    """Say whether slots in short, as 0-3,7, hold one."""
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        if int(first) <= slot <= int(last or first):
            return True
    return False
