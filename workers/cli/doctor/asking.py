"""Running nodes, asked by their HTTP API: what each tells, and what they tell together."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from synap.tls import expiry_in
from workers.cli import http_call
from workers.cli.doctor.findings import Finding, fault, note, warning
from workers.cli.doctor.metrics import Samples, expiry_findings, metric_findings
from workers.cli.http_call import CallFailed, CallRefused, NodeDistrusted

_ANSWER_SECONDS = 5.0
_THREADS = 16
_MOST_METRICS_BYTES = 16 * 1024 * 1024
Told = TypeVar("Told", bound=msgspec.Struct)
# A Date header has whole seconds, and its way took a moment.
_CLOCK_SECONDS = 2.5


class _Row(msgspec.Struct, frozen=True):
    """A replica as its master knows it."""

    status: str = ""


class _Awaited(msgspec.Struct, frozen=True):
    """A replica that a master waits for."""

    id: str
    note: str | None = None


class Replication(msgspec.Struct, frozen=True):
    """Of what `/health/replication` tells, what is looked at."""

    role: str
    node_id: str
    min_replicas_to_write: int = 0
    replicas: list[_Row] = []
    waiting_for: list[_Awaited] | None = None
    store_note: str | None = None
    read_only: str | None = None


class _Persistence(msgspec.Struct, frozen=True):
    """A node's disk, as `/stats` tells."""

    snapshot_error: str | None = None
    wal_damage: str | None = None


class _Stats(msgspec.Struct, frozen=True):
    """Of `/stats`, what is looked at."""

    persistence: _Persistence


@dataclass(slots=True)
class Seen:
    """What one node tells.

    Attributes:
        node: Its name; its URL where it has told none.
        url: Where it was asked.
        version: Its program's; empty where unknown.
        clock_ahead: Seconds that its clock is ahead of this machine's; None where unknown.
        replication: What `/health/replication` tells; None without an answer.
        findings: What is wrong with it alone.
    """

    node: str
    url: str
    version: str = ""
    clock_ahead: float | None = None
    replication: Replication | None = None
    findings: list[Finding] = field(default_factory=list)


def ask_nodes(urls: Sequence[str]) -> list[Seen]:
    """Ask each node for all that it tells of itself, all at once."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(_ask, urls))


def findings_of(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Yield what is wrong with each node, and between them."""
    for each in seen:
        yield from each.findings
    answered = [each for each in seen if each.version]
    yield from version_findings(answered)
    yield from clock_findings(answered)
    yield from quorum_findings([each.replication for each in seen if each.replication])


def version_findings(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Yield whether the nodes run different programs."""
    versions: dict[str, list[str]] = {}
    for each in seen:
        if each.version:
            versions.setdefault(each.version, []).append(each.node)
    if len(versions) > 1:
        words = "; ".join(f"{version}: {', '.join(names)}" for version, names in versions.items())
        yield warning(
            "", f"the nodes run different versions ({words})",
            "upgrade the others, replicas before the master: docs/upgrading.md",
        )  # fmt: skip


def clock_findings(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Yield whose clock is not the others'; where all differ alike, it is this machine's."""
    known = [(each.node, each.clock_ahead) for each in seen if each.clock_ahead is not None]
    apart = [(node, ahead) for node, ahead in known if abs(ahead) > _CLOCK_SECONDS]
    shifts = [ahead for _, ahead in apart]
    is_ours = len(apart) == len(known) > 1 and max(shifts) - min(shifts) <= _CLOCK_SECONDS
    if is_ours:
        yield warning(
            "this machine's clock", f"is {-sum(shifts) / len(shifts):+.0f} s from all nodes'",
            "put it right: look whether NTP runs here",
        )  # fmt: skip
        return
    for node, ahead in apart:
        yield warning(
            node, f"has a clock that is {ahead:+.0f} s from this machine's",
            "look whether NTP runs on both; keys expire by the master's clock",
        )  # fmt: skip


def quorum_findings(told: Sequence[Replication]) -> Iterator[Finding]:
    """Yield what is wrong with the number of replicas that writes wait for."""
    quorums = {
        each.node_id: each.min_replicas_to_write for each in told if each.role != "standalone"
    }
    if len(set(quorums.values())) > 1:
        words = ", ".join(f"{node}: {quorum}" for node, quorum in quorums.items())
        yield warning(
            "", f"replication.min_replicas_to_write is not the same on all nodes ({words})",
            "give all nodes the same: it changes with the master otherwise",
        )  # fmt: skip
    for each in told:
        if each.role == "master" and each.read_only != "stale_epoch":
            yield from _quorum_of_master(each)


def _quorum_of_master(facts: Replication) -> Iterator[Finding]:
    quorum = facts.min_replicas_to_write
    following = sum(1 for each in facts.replicas if each.status in ("in_sync", "catching_up"))
    if quorum > following:
        yield fault(
            facts.node_id,
            f"waits with each write for {quorum} replicas, and {following} follow it",
            "start those that are away; until then writes answer quorum_timeout",
        )
    elif not quorum and facts.replicas:
        yield note(
            facts.node_id,
            "tells clients of writes that no replica holds yet (min_replicas_to_write: 0)",
            "with 1 or more the loss of its disk costs nothing that was answered",
        )


def _ask(url: str) -> Seen:
    seen = Seen(url, url)
    looks: tuple[Callable[[Seen], None], ...] = (
        _look_at_certificate, _look_at_health, _look_at_replication, _look_at_stats,
        _look_at_metrics,
    )  # fmt: skip
    try:
        for look in looks:
            look(seen)
    except CallRefused as error:
        seen.findings.append(_refused(seen, error))
    except NodeDistrusted as error:
        seen.findings.append(fault(seen.node, "was not looked at", str(error)))
    except CallFailed as error:
        seen.findings.append(fault(seen.node, "does not answer", _words_for_silence(error)))
    return seen


def _words_for_silence(error: CallFailed) -> str:
    return (
        f"{error}. Look whether it runs there (`synap health` on its machine), what its log ends "
        "with, and whether server.host and a firewall let this machine in"
    )


def _refused(seen: Seen, error: CallFailed) -> Finding:
    return warning(
        seen.node, f"was not looked at closely: {error}",
        "give credentials of an administrator by --user or --api-key",
    )  # fmt: skip


def _look_at_certificate(seen: Seen) -> None:
    parts = urlsplit(seen.url)
    if parts.scheme != "https" or not parts.hostname:
        return
    address = parts.hostname, parts.port or 443
    try:
        ends = expiry_in(ssl.get_server_certificate(address, timeout=_ANSWER_SECONDS))
    except (OSError, ValueError):
        # The next question says what is wrong.
        return
    seen.findings += expiry_findings(seen.url, ends, time.time())


def _look_at_health(seen: Seen) -> None:
    facts, ahead = _timed_health(seen.url)
    seen.version, seen.clock_ahead = str(facts.get("version", "")), ahead
    for reason in facts.get("reasons") or ():
        seen.findings.append(
            fault(seen.url, f"is unhealthy: {reason}", "see its log, and `synap status`")
        )


def _timed_health(url: str) -> tuple[dict[str, Any], float | None]:
    """Return a node's health, and how far its clock is ahead of this one's, in seconds."""
    before = time.time()
    told = http_call.health(url, _ANSWER_SECONDS)
    middle = (before + time.time()) / 2
    try:
        # Whole seconds: on average half of one has gone by.
        at = parsedate_to_datetime(told.date).timestamp() + 0.5
    except ValueError:
        return told.facts, None
    return told.facts, at - middle


def _look_at_replication(seen: Seen) -> None:
    facts = _told(seen.url, "/health/replication", Replication)
    seen.replication, seen.node = facts, facts.node_id
    if facts.store_note:
        seen.findings.append(
            fault(seen.node, facts.store_note, 'docs/operations.md, "Damaged records"')
        )
    for awaited in facts.waiting_for or ():
        words = f": {awaited.note}" if awaited.note else ""
        seen.findings.append(
            fault(seen.node, f"waits for {awaited.id}{words}", "start that replica")
        )


def _look_at_stats(seen: Seen) -> None:
    kept = _told(seen.url, "/stats", _Stats).persistence
    if kept.snapshot_error:
        seen.findings.append(
            fault(
                seen.node, f"could not take its last snapshot: {kept.snapshot_error}",
                "mostly room or rights in the snapshots' folder; `synap snapshot` tries at once",
            )
        )  # fmt: skip
    if kept.wal_damage:
        seen.findings.append(
            fault(
                seen.node, f"has a damaged log: {kept.wal_damage}",
                'docs/operations.md, "Repair"; and look at the disk',
            )
        )  # fmt: skip


def _told(url: str, path: str, kind: type[Told]) -> Told:
    """Return what a node answers.

    Raises:
        CallFailed: it does not, or not as a node does.
    """
    try:
        return msgspec.convert(http_call.get(url, path, _ANSWER_SECONDS), kind)
    except msgspec.ValidationError as error:
        raise CallFailed(f"{url}{path} does not answer as a Synap node does: {error}") from error


def _look_at_metrics(seen: Seen) -> None:
    with http_call.stream(seen.url, "/metrics", _ANSWER_SECONDS) as answer:
        text = answer.read(_MOST_METRICS_BYTES).decode(errors="replace")
    found = list(metric_findings(seen.node, Samples(text), time.time()))
    # What was seen of its certificate from outside, once.
    said = {each.what for each in found}
    seen.findings = [each for each in seen.findings if each.what not in said]
    for each in found:
        remedy = each.remedy.replace("--url URL", f"--url {seen.url}")
        seen.findings.append(replace(each, remedy=remedy))
