"""The agents in a simulated cluster, and rules broken on purpose that it must see.

A run that fails prints its trace and its seed; `simulate_agents(seed)` has it again.
`tests/chaos/test_simulation.py` runs many more. What seals and acks promise whoever asks for them
is broken on purpose in `tests/unit/test_simulation.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from synap.commands.records import Record
from synap.failover import agent, hold, rules
from synap.failover.hold import Hold
from synap.failover.rules import Member
from tests.simulation.engine import SimEngine
from tests.simulation.guarded import LeasedMaster
from tests.simulation.guarded_run import simulate_agents
from tests.simulation.machine import Machine
from tests.simulation.run import breaks_a_promise

SEEDS = 20
# What the seeds must have come through together: else they would prove little.
_DEEDS = (
    "is promoted for epoch",
    "is sealed for",
    "steps down at",
    "has lost its lease, and ends",
    "the engine is away",
    "sleeps for",
    "acknowledges",
    "is to end",
)

# Found once: a master that had stepped down when its engine went away kept the key for ever; one
# whose key had gone with its lease by then let go of whatever was there; a voter whose seal was
# told twice counted for two.
_ONCE_BROKEN = (2205, 3180, 7026)

Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Tell nothing of what agents tell: it is the trace that counts."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_no_promise_is_broken_whatever_becomes_of_leases_and_nodes() -> None:
    lines = "\n".join(line for seed in range(SEEDS) for line in simulate_agents(seed))
    assert [deed for deed in _DEEDS if deed not in lines] == []


def test_seed_gives_the_same_trace_again() -> None:
    assert simulate_agents(7) == simulate_agents(7)


@pytest.mark.parametrize("seed", _ONCE_BROKEN)
def test_seed_that_found_a_fault_once_keeps_every_promise(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails with the trace where a promise is broken; somebody must have taken the key."""
    # They were found when nobody looked more often than this, and so tell the same again.
    monkeypatch.setattr(agent, "_HURRY_SECONDS", agent._WATCH_SECONDS)
    assert any("is promoted for epoch" in line for line in simulate_agents(seed))


def _compare_once(patch: pytest.MonkeyPatch) -> None:
    """A master does not look at its lease again when the write is on the disk."""
    patch.setattr(LeasedMaster, "is_late", lambda _: False)


def _go_by_a_clock_that_stops(patch: pytest.MonkeyPatch) -> None:
    """The lease goes by CLOCK_MONOTONIC, which stands still while the machine is suspended."""
    patch.setattr(Machine, "boottime_ns", Machine.monotonic_ns)


def _count_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    """The lease counts from when the engine's answer came, however late that was."""

    def renew(self: Hold) -> None:
        shipped(self)
        granted = self._options.ttl_seconds
        self.until_ns = self._pace.boottime_ns() + int(
            (granted - self._options.margin(granted)) * hold._NS
        )
        if self.epoch:
            self.give_again()

    shipped = Hold.renew
    patch.setattr(Hold, "renew", renew)


def _take_any_answer_for_a_lease(patch: pytest.MonkeyPatch) -> None:
    """An answer to a keep-alive without a time is one."""
    keep_alive = SimEngine.keep_alive
    patch.setattr(SimEngine, "keep_alive", lambda self, lease: keep_alive(self, lease) or 5)


def _read_without_end(patch: pytest.MonkeyPatch) -> None:
    """Strong reads are answered as long as writes are taken."""
    patch.setattr(LeasedMaster, "is_alone", lambda self: not self.lease.is_over())


def _read_what_nobody_holds(patch: pytest.MonkeyPatch) -> None:
    """Strong reads tell what is on this node alone."""

    def read(
        self: LeasedMaster, register: bytes, record: Record | None, called: int, _: int
    ) -> None:
        if not self.is_over and self.is_alone():
            self.world.was_read(self, register, record, called)

    patch.setattr(LeasedMaster, "_await_held", read)


def _seal_one_too_few(patch: pytest.MonkeyPatch) -> None:
    """A candidate is content with a seal less."""
    needed = rules.needed_seals
    patch.setattr(rules, "needed_seals", lambda *numbers: max(1, needed(*numbers) - 1))


def _lead_whoever_is_ahead(patch: pytest.MonkeyPatch) -> None:
    """A candidate with its seals does not look who of the sealed holds more."""
    patch.setattr("synap.failover.campaign.ahead_of", lambda *_: None)
    patch.setattr(Member, "order", property(lambda self: (-self.rank.offset, self.id)))


# Each with a seed that saw it once, so that the search is short.
MUTANTS: tuple[tuple[Patch, int], ...] = (
    (_compare_once, 19),
    (_go_by_a_clock_that_stops, 28),
    (_count_from_the_answer, 280),
    (_take_any_answer_for_a_lease, 1),
    (_read_without_end, 47),
    (_read_what_nobody_holds, 48),
    (_seal_one_too_few, 64),
    (_lead_whoever_is_ahead, 11),
)


@pytest.mark.parametrize(
    ("mutate", "seed"), MUTANTS, ids=[each.__name__[1:] for each, _ in MUTANTS]
)
def test_rule_broken_on_purpose_is_seen(
    mutate: Patch, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    assert any(breaks_a_promise(simulate_agents, each) for each in (seed, *range(200)))
