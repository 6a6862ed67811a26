"""One run of the simulation with agents: a seed decides everything that happens, and how."""

from __future__ import annotations

from random import Random

from tests.simulation.engine import ENGINE
from tests.simulation.guarded import GuardedWorld, LeasedMaster
from tests.simulation.network import Weather, drawn_weather
from tests.simulation.run import told_with_its_trace
from tests.simulation.world import SimNode, Violation

_BEGINNING_MS = 3000
_FAULTS_MS = 30_000
_HEALING_MS = 90_000
_LOOK_MS = 500


class GuardedRun:
    """One cluster's life."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.world = GuardedWorld(self._random, Random(f"histories of {seed}"))
        self._timeline = self.world.timeline
        self._hardship = self._random.choice((0.0, 0.3, 1.0))
        self._pace_ms = self._random.choice((50, 120, 300))
        self._is_healing = False
        world = self.world
        self._faults = (
            (4, self._crash),
            (3, lambda: world.restart_owner(self._any().name)),
            (2, lambda: world.crash_agent(self._any())),
            (4, self._suspend),
            (5, self._split),
            (3, self._lose_engine),
            (3, world.service.revoke_early),
            (2, lambda: world.want(self._any().name)),
            (2, self._terminate),
            (2, self._change_weather),
            (2, lambda: setattr(world, "slow_share", 0.1 * self._random.random())),
        )

    def go(self) -> list[str]:
        """Live through the faults, heal, and compare; return the trace.

        Raises:
            Violation: a promise was broken.
        """
        world, timeline = self.world, self._timeline
        timeline.after(500, self._act)
        timeline.after(_BEGINNING_MS, self._do_harm)
        timeline.run_until(_FAULTS_MS)
        self._heal()
        while not self._is_whole():
            if timeline.elapsed_ms >= _FAULTS_MS + _HEALING_MS:
                raise Violation(f"the nodes do not agree: {world.standing()}")
            world.accept_diverged()
            timeline.run_until(timeline.elapsed_ms + _LOOK_MS)
        self._look_for_losses()
        return timeline.trace

    def _act(self) -> None:
        """Have a client write or read at a node that takes itself for the master."""
        world = self.world
        masters = [n for n in world.nodes.values() if isinstance(n.process, LeasedMaster)]
        if masters:
            node = self._random.choice(masters)
            (world.client_writes if self._random.random() < 0.6 else world.client_reads)(node)
        if not self._is_healing:
            self._timeline.after(self._pace_ms * 2 * self._random.random(), self._act)

    def _do_harm(self) -> None:
        if self._is_healing:
            return
        self._timeline.after(300 + 3000 * self._random.random(), self._do_harm)
        weights = [weight for weight, _ in self._faults]
        self._random.choices([action for _, action in self._faults], weights)[0]()

    def _any(self) -> SimNode:
        """Return a node, more often than not one that takes itself for the master."""
        nodes = list(self.world.nodes.values())
        masters = [each for each in nodes if isinstance(each.process, LeasedMaster)]
        return self._random.choice(masters if masters and self._random.random() < 0.6 else nodes)

    def _crash(self) -> None:
        node = self._any()
        self._timeline.note(f"{node.name} crashes")
        self.world.crash(node)
        self._start_later(node)

    def _terminate(self) -> None:
        node = self._any()
        self._timeline.note(f"{node.name} is to end")
        self.world.terminate(node, 3000)
        self._timeline.after(3500, lambda: self.world.start(node))

    def _start_later(self, node: SimNode) -> None:
        delay_ms = 100 + 8000 * self._random.random() ** 2
        self._timeline.after(delay_ms, lambda: self.world.start(node))

    def _suspend(self) -> None:
        node = self._any()
        ms = 200 + 12_000 * self._random.random()
        self._timeline.note(f"{node.name} sleeps for {ms:.0f} ms")
        self.world.machine(node.name).sleep(ms)

    def _split(self) -> None:
        world, draw = self.world, self._random.random
        apart = [self._any().name]
        if draw() < 0.3:
            apart.append(self._random.choice(list(world.nodes)))
        apart += [who for who, share in (("client", 0.4), (ENGINE, 0.15)) if draw() < share]
        if draw() < 0.2:
            apart = [ENGINE]
        self._timeline.note(f"{' '.join(apart)} cut off")
        world.network.split(apart)
        self._timeline.after(500 + 12_000 * draw(), world.network.heal)

    def _lose_engine(self) -> None:
        ms = 500 + 10_000 * self._random.random()
        self._timeline.note(f"the engine is away for {ms:.0f} ms")
        self.world.service.go_away(ms)

    def _change_weather(self) -> None:
        weather = drawn_weather(self._random, self._hardship, 0.2)
        self.world.network.weather = weather

    def _heal(self) -> None:
        world = self.world
        self._is_healing = True
        self._timeline.note("all is well again")
        world.network.heal()
        world.network.weather = Weather()
        world.slow_share = 0.0
        for node in world.nodes.values():
            world.start(node)

    def _is_whole(self) -> bool:
        world = self.world
        leading = [node for node in world.nodes.values() if world.leads(node)]
        if len(leading) != 1:
            return False
        world.reigning = leading[0]
        return world.do_all_agree()

    def _look_for_losses(self) -> None:
        world = self.world
        if not world.quorum:
            return
        store = world.reigning.disk.store.records
        for write in world.writes:
            is_promised = write.is_acknowledged or write.key in world.told
            if is_promised and write.key not in store:
                raise Violation(f"{write.key!r} of {write.master} at {write.position} is gone")
        world.look_for_order()


def simulate_agents(seed: int) -> list[str]:
    """Run a seed; return its trace.

    Raises:
        Failure: a promise was broken.
    """
    run = GuardedRun(seed)
    with told_with_its_trace(seed, run.world.timeline):
        try:
            return run.go()
        finally:
            run.world.end()
