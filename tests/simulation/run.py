"""One run of the simulation: a seed decides everything that happens, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from tests.simulation.network import Weather, drawn_weather
from tests.simulation.stories import STORIES, sealed_takeover
from tests.simulation.timeline import Timeline
from tests.simulation.world import LATE_MS, SimNode, Violation, World

# The part with faults, and how long the nodes have to agree after it.
_FAULTS_MS = 14_000
_HEALING_MS = 60_000
_LOOK_MS = 1000
# After so much of that, no replica gives a master back what it lost: another one must reign.
_PATIENCE_MS = 25_000


class Failure(AssertionError):
    """A run that broke a promise; says how to have it again, and ends with the trace."""


class Run:
    """One cluster's life."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.world = World(self._random, Random(f"histories of {seed}"))
        self._timeline = self.world.timeline
        self._hardship = self._random.choice((0.0, 0.3, 1.0))
        self._pace_ms = self._random.choice((60, 150, 400))
        self._faults = (
            (6, self._crash),
            (3, self._crash_machine),
            (3, self._cut_the_masters_power),
            (4, self._split),
            (8, self.world.fail_over),
            (4, self.world.repoint_strays),
            (5, self._snapshot),
            (2, lambda: self.world.wipe(self._any())),
            (2, self._fill_disk),
            (2, self._change_weather),
            (2, self._lose_disk),
            (3, self._flip_bit),
            (2, self._jump_clock),
            (1, self.world.scrub),
            (4, self.world.replace_damaged),
            (1, self.world.accept_diverged),
        )
        self._story = self._random.choice((None, None, *STORIES))
        # Drawn apart, so that the other seeds tell what they told before there were seals.
        if self._story is None and Random(f"seals of {seed}").random() < 0.5:
            self._story = sealed_takeover
        self._is_telling = False
        self._is_healing = False

    def go(self) -> list[str]:
        """Live through the faults, heal, and compare; return the trace.

        Raises:
            Violation: a promise was broken.
        """
        world, timeline = self.world, self._timeline
        self._change_weather()
        timeline.after(500, self._write)
        timeline.after(1000, self._do_harm)
        timeline.after(2000 + 8000 * self._random.random(), self._begin_story)
        timeline.run_until(_FAULTS_MS)
        self._heal()
        end_ms = _FAULTS_MS + _HEALING_MS
        while not world.do_all_agree():
            if timeline.elapsed_ms >= end_ms:
                raise Violation(f"the nodes do not agree: {world.standing()}")
            world.end_seals()
            world.repoint_strays()
            world.accept_diverged()
            world.scrub()
            is_late = timeline.elapsed_ms > _FAULTS_MS + _PATIENCE_MS
            world.replace_damaged(is_last=is_late)
            if timeline.elapsed_ms > _FAULTS_MS + _PATIENCE_MS:
                world.fail_over_recovering()
            timeline.run_until(timeline.elapsed_ms + _LOOK_MS)
        world.scrub()
        self._look_for_losses()
        self._look_for_a_master()
        self._look_for_the_expired()
        return timeline.trace

    def _write(self) -> None:
        world = self.world
        node = world.reigning if self._random.random() < 0.8 else self._any()
        world.write(node)
        world.look_at_readers()
        if not self._is_healing:
            self._timeline.after(self._pace_ms * 2 * self._random.random(), self._write)

    def _do_harm(self) -> None:
        if self._is_healing:
            return
        self._timeline.after(100 + 1400 * self._random.random(), self._do_harm)
        if self._is_telling:
            return
        weights = [weight for weight, _ in self._faults]
        self._random.choices([action for _, action in self._faults], weights)[0]()

    def _begin_story(self) -> None:
        if self._story is not None:
            self._timeline.note(f"the story of {self._story.__name__} begins")
            self._is_telling = True
            self._tell(self._story(self.world, self._random))

    def _tell(self, steps: Iterator[float]) -> None:
        delay_ms = None if self._is_healing else next(steps, None)
        if delay_ms is not None:
            self._timeline.after(delay_ms, lambda: self._tell(steps))
            return
        self._is_telling = False
        if not self._is_healing:
            self.world.network.heal()

    def _any(self) -> SimNode:
        return self._random.choice(list(self.world.nodes.values()))

    def _crash(self) -> None:
        node = self._any()
        self._timeline.note(f"{node.name} crashes")
        node.stop()
        self._start_later(node)

    def _crash_machine(self) -> None:
        node = self._any()
        lost = node.crash_machine()
        self._timeline.note(f"the machine of {node.name} crashes, {lost} frames lost")
        self.world.excuse_losses(node)
        self._start_later(node)

    def _cut_the_masters_power(self) -> None:
        """The reigning master comes back at once, without the end of its log."""
        node = self.world.reigning
        lost = node.crash_machine()
        self._timeline.note(f"{node.name} loses its power, {lost} frames lost")
        self.world.excuse_losses(node)
        self._start_later(node, 500)

    def _start_later(self, node: SimNode, longest_ms: float = 6000) -> None:
        def start() -> None:
            if node.process is None:
                node.start()

        self._timeline.after(100 + longest_ms * self._random.random() ** 2, start)

    def _split(self) -> None:
        world = self.world
        apart = self._random.sample(list(world.nodes), self._random.choice((1, 1, 2)))
        self._timeline.note(f"{' '.join(apart)} cut off")
        world.network.split(apart)
        self._timeline.after(500 + 6000 * self._random.random(), world.network.heal)

    def _snapshot(self) -> None:
        node = self._any()
        if self.world.snapshot(node.name) and self._random.random() < 0.7:
            node.disk.retire()

    def _lose_disk(self) -> None:
        """The disk of a node goes away and comes back, without what was not synced."""
        node = self._any()
        lost = node.lose_disk()
        self._timeline.note(f"the disk of {node.name} is mounted anew, {lost} frames lost")
        self.world.excuse_losses(node)
        self._start_later(node)

    def _flip_bit(self) -> None:
        node = self._any()
        disk, kind = node.disk, self._random.random()
        if kind < 0.6:
            where: object = disk.store.flip_bit(self._random)
        elif kind < 0.8:
            where = disk.flip_bit_of_log()
        else:
            where = "a snapshot" if disk.flip_bit_of_snapshot() else None
        self._timeline.note(f"a bit flips at {node.name}: {where}")

    def _jump_clock(self) -> None:
        node = self._any()
        if node.process is None:
            # A machine that starts with a wrong clock has nothing to tell it by.
            return
        self._timeline.note(f"the clock of {node.name} jumps by {node.clocks.jump():.0f} ms")
        self._timeline.after(500 + 8000 * self._random.random(), node.clocks.set_right)

    def _fill_disk(self) -> None:
        disk = self._any().disk
        disk.full_share = 0.5
        self._timeline.after(2000, lambda: setattr(disk, "full_share", 0.0))

    def _change_weather(self) -> None:
        weather = drawn_weather(self._random, self._hardship, 0.3)
        self.world.network.weather = weather

    def _heal(self) -> None:
        world = self.world
        self._is_healing = True
        self._timeline.note("all is well again")
        world.network.heal()
        world.network.weather = Weather()
        for node in world.nodes.values():
            node.disk.full_share = 0.0
            node.clocks.set_right()
            if node.process is None:
                node.start()

    def _look_for_losses(self) -> None:
        store = self.world.reigning.disk.store.records
        for write in self.world.writes:
            if write.is_acknowledged and not write.is_excused and write.key not in store:
                raise Violation(f"{write.key!r} of {write.master} at {write.position} is gone")

    def _look_for_a_master(self) -> None:
        """Check that what only crashed took no reign from a node that was promoted."""
        reigning = self.world.reigning
        ended_by = reigning.disk.node.identity.ended_by_epoch
        if ended_by:
            raise Violation(f"epoch {ended_by} has ended the promoted {reigning.name}'s reign")

    def _look_for_the_expired(self) -> None:
        """Check that what had to expire is not told any more."""
        world = self.world
        for node in world.nodes.values():
            for key, deadline in world.deadlines.items():
                is_due = deadline + LATE_MS < self._timeline.elapsed_ms
                if is_due and node.disk.store.read(key, node.clocks.now_ms()) is not None:
                    raise Violation(f"{node.name} still tells {key!r}")


def simulate(seed: int) -> list[str]:
    """Run a seed; return its trace.

    Raises:
        Failure: a promise was broken.
    """
    run = Run(seed)
    with told_with_its_trace(seed, run.world.timeline):
        return run.go()


@contextmanager
def told_with_its_trace(seed: int, timeline: Timeline) -> Iterator[None]:
    """Have whatever fails be a Failure, which tells the seed and the trace up to there."""
    try:
        yield
    except Exception as error:
        trace = "\n".join(timeline.trace)
        raise Failure(f"{trace}\nseed {seed}: {type(error).__name__}: {error}") from error


def breaks_a_promise(simulation: Callable[[int], list[str]], seed: int) -> bool:
    """Say whether a seed shows a promise that is broken; other failures are none."""
    try:
        simulation(seed)
    except Failure as failure:
        return isinstance(failure.__cause__, Violation)
    return False
