"""What happens to a cluster in an order that chance alone would hardly find.

Each is made of steps that nodes, network and operator might do, told as the ms to wait in between.
A broken rule that matters only there is seen there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from synap.failover.rules import needed_seals
from synap.replication.rules.reigns import Rank
from tests.simulation.world import NODES, SimNode, World

Story = Callable[[World, Random], Iterator[float]]


def old_entry_overruled(world: World, random: Random) -> Iterator[float]:
    """A master's last entries reach a replica in its next reign alone, and another outranks them.

    Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", figure 8: the
    first master logs entries that nobody else has; a second begins a reign that nobody hears of;
    the first reigns again, its old entries reach a replica, and it is gone before the entry does
    that begins its reign. The second one's newer reign then outranks who holds the old entries.
    """
    first = world.reigning
    world.network.split([first.name, "client"])
    for _ in range(random.randint(1, 5)):
        world.write(first)
        yield 20 * random.random()
    first.stop()
    world.network.heal()
    yield 100
    world.fail_over()
    second = world.reigning
    if second is first:
        return
    world.network.split([second.name])
    yield 50
    if first.process is None:
        first.start()
    world.follow(first)
    yield 10
    world.fail_over()
    yield from _strike_at_a_promise(world, world.reigning, random)


def laggard_greets_first(world: World, random: Random) -> Iterator[float]:
    """Who lacks most is the first to hear of a new reign, and its master is gone before a frame."""
    replicas = [node for node in world.nodes.values() if node is not world.reigning]
    laggard, *others = random.sample(replicas, len(replicas))
    world.network.split([laggard.name])
    for _ in range(random.randint(2, 8)):
        world.write(world.reigning)
        yield 50
    yield 500 * random.random()
    first = world.reigning
    first.stop()
    world.network.heal()
    yield 10
    world.fail_over()
    second = world.reigning
    if second is first:
        return
    world.network.split([node.name for node in others if node is not second])
    for _ in range(1000):
        if second.disk.node.reign in laggard.disk.lineage:
            break
        yield 1
    world.network.split([second.name])
    if first.process is None:
        first.start()
    world.follow(first)
    yield 10
    world.fail_over()
    yield 500


def crashes_outnumber_a_promotion(world: World, random: Random) -> Iterator[float]:
    """A master that is cut off comes back from crash after crash, each time in a reign of its own.

    Meanwhile another one reigns that an operator promoted, by a lower number. The first may have
    been promoted itself, just before, so that each crash may cost it its reign's only entry.
    """
    first = world.reigning
    if random.random() < 0.5:
        first.stop()
        world.fail_over()
        first.start()
        if world.reigning is not first:
            world.follow(first)
        first = world.reigning
    world.network.split([first.name])
    yield 20
    world.fail_over()
    for _ in range(random.randint(2, 3)):
        first.crash_machine()
        world.excuse_losses(first)
        first.start()
        yield 800
    yield 500 * random.random()


def promise_and_end(world: World, random: Random) -> Iterator[float]:
    """The master is gone in the moment in which it has promised something."""
    yield from _strike_at_a_promise(world, world.reigning, random)


def sealed_takeover(world: World, random: Random) -> Iterator[float]:
    """A candidate seals the voters one by one while their master goes on, and takes its place.

    Nobody stops the old master: it has lost its engine, and clients of its own. Between two seals
    it takes writes, and what is sealed may crash and come back.
    """
    old = world.reigning
    voters = world.voters()
    if len(voters) < needed_seals(NODES - 1, world.quorum):
        return
    candidate = random.choice(voters)
    for _ in range(2):
        epoch = 1 + max(
            world.sealed_epoch, *(node.disk.node.next_epoch - 1 for node in world.nodes.values())
        )
        sealed: dict[str, Rank] = {}
        for voter in [candidate, *random.sample(voters, len(voters))]:
            if len(sealed) >= needed_seals(NODES - 1, world.quorum):
                break
            held = world.seal(voter, epoch, candidate)
            if held is not None:
                sealed[voter.name] = held
            if random.random() < 0.3:
                voter.restart()
            for _ in range(random.randint(0, 3)):
                world.write(old)
                yield 60 * random.random()
        if len(sealed) < needed_seals(NODES - 1, world.quorum) or candidate.name not in sealed:
            return
        best = max(sealed, key=lambda name: (sealed[name], name == candidate.name))
        if best == candidate.name:
            break
        candidate = world.nodes[best]
    else:
        return
    for _ in range(random.randint(0, 3)):
        world.write(old)
        yield 200 * random.random()
    if candidate.process is None or candidate.disk.node.role != "replica":
        return
    world.promote_sealed(candidate, epoch)
    for name in sealed:
        if name != candidate.name:
            yield 50 * random.random()
            world.follow(world.nodes[name])
    for _ in range(5):
        world.write(old)
        world.write(candidate)
        yield 300 * random.random()


STORIES: tuple[Story, ...] = (
    old_entry_overruled,
    laggard_greets_first,
    crashes_outnumber_a_promotion,
    promise_and_end,
)


def _strike_at_a_promise(world: World, master: SimNode, random: Random) -> Iterator[float]:
    """Cut a master off when it has told a client something, and promote another one."""
    struck: list[SimNode] = []

    def strike() -> None:
        struck.append(master)
        world.network.split([master.name])

    world.on_promise = strike
    for _ in range(600):
        world.read_held(master)
        if struck:
            break
        yield 2
    world.on_promise = None
    world.network.split([master.name])
    yield 50 * random.random()
    world.repoint_strays()
    yield 10
    world.fail_over()
    yield 500 * random.random()
