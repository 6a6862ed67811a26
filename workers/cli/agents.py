"""`synap failover status`, `pause`, `resume`, `history`, `switchover`: the agents, by their engine.

The engine is the one that a node's configuration names; no node is asked.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.errors import ConfigInvalid
from synap.failover.engine import Engine, Put, Unchanged
from synap.failover.records import Keys, Turn, Wanted, decoded, encoded, view_of
from synap.failover.rules import Settings, View, heir_of, needed_seals
from workers.failover import engine_of
from workers.process import EXIT_FAILED

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="A node's configuration.")
]

_MOVE_SECONDS = 30.0
_LOOK_SECONDS = 0.1
# Of an agent's default loop, and what its steps take.
_STALE_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status")(status_command)
    app.command("pause")(pause_command)
    app.command("resume")(resume_command)
    app.command("history")(history_command)
    app.command("forget")(forget_command)
    app.command("switchover")(switchover_command)


def status_command(config: ConfigOption = None) -> None:
    """Show who leads, who votes, and who would take a lost master's place."""
    engine, keys = _engine(config)
    view = view_of(engine.read(*keys.state), keys)
    settings = view.settings or Settings()
    leader = view.leader
    heir = heir_of(view.members, settings, leader)
    shown = {
        "leader": leader.id if leader else None,
        "epoch": view.epoch,
        "quorum": settings.quorum,
        "voters": settings.voters,
        "paused": settings.is_paused,
        "next": heir.id if heir is not None else None,
        "would_lose": (
            max(0, leader.offset - heir.rank.offset) if leader is not None and heir else None
        ),
        "seals_needed": needed_seals(len(settings.voters) - 1, settings.quorum),
        "members": [
            {
                "id": each.id, "url": each.url, "rank": each.rank, "joined": each.is_joined,
                "unfit": each.unfit or None,
            }
            for each in sorted(view.members.values(), key=lambda each: each.id)
        ],
        "missing": [each for each in settings.voters if each not in view.members],
    }  # fmt: skip
    typer.echo(json.dumps(shown, indent=2))


def pause_command(config: ConfigOption = None) -> None:
    """Have nobody take a lost master's place; roles may be changed by hand."""
    _set_paused(config, is_paused=True)


def resume_command(config: ConfigOption = None) -> None:
    """End the maintenance."""
    _set_paused(config, is_paused=False)


def forget_command(
    name: Annotated[str, typer.Argument(metavar="NODE", help="Its server.node_id.")],
    config: ConfigOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where nobody leads: gives up what it alone holds.")
    ] = False,
) -> None:
    """Have the cluster go on without a voter that is gone for good.

    The master counts its acks no more, and it leaves the voters when the others hold what it had
    acknowledged. Where nobody leads, --force takes it out at once.
    """
    engine, keys = _engine(config)
    view = view_of(engine.read(*keys.state), keys)
    settings, why = view.settings or Settings(), ""
    if name not in settings.voters:
        why = f"{name} is no voter; they are {', '.join(settings.voters) or 'nobody'}"
    elif name in view.members:
        why = f"{name} is there; stop it first"
    elif view.leader is None and not force:
        why = f"nobody leads, and {name} may alone hold a write that was acknowledged; use --force"
    leaving = msgspec.structs.replace(settings, leaving=(*settings.leaving, name))
    wanted = leaving if view.leader is not None else leaving.without_leaving()
    if not why and not engine.change(
        [Unchanged(keys.config, view.revisions[keys.config])], [Put(keys.config, encoded(wanted))]
    ):
        why = "the settings were changed just now; try again"
    if why:
        typer.echo(f"synap: {why}", err=True)
        raise typer.Exit(EXIT_FAILED)
    typer.echo(f"{name} leaves" if view.leader is not None else f"{name} is no voter any more")


def history_command(config: ConfigOption = None) -> None:
    """Show each change of the master: epoch, when, who, why, and what was lost."""
    engine, keys = _engine(config)
    for _, item in sorted(engine.read(*keys.past).items()):
        turn = decoded(item, Turn)
        if turn is None:
            continue
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(turn.at_ms / 1000))
        lost = f", lost {turn.lost}" if turn.lost else ""
        typer.echo(f"{turn.epoch}  {at}  {turn.id}  offset {turn.offset}  {turn.why}{lost}")


def switchover_command(
    to: Annotated[str, typer.Option("--to", metavar="NODE", help="Its server.node_id.")],
    config: ConfigOption = None,
) -> None:
    """Have the master hand over to NODE; nothing is lost, and writes are away shortly."""
    engine, keys = _engine(config)
    _await_fitness(engine, keys, to)
    engine.change([], [Put(keys.wanted, encoded(Wanted(to)))])
    deadline = time.monotonic() + _MOVE_SECONDS
    while time.monotonic() < deadline:
        leader = view_of(engine.read(*keys.state), keys).leader
        if leader is not None and leader.id == to and leader.is_reigning:
            typer.echo(f"{to} is the master, epoch {leader.epoch}")
            return
        time.sleep(_LOOK_SECONDS)
    typer.echo(f"synap: {to} did not take over within {_MOVE_SECONDS:g} s; see its log", err=True)
    raise typer.Exit(EXIT_FAILED)


def _await_fitness(engine: Engine, keys: Keys, to: str) -> None:
    """Refuse a move to a node that can't lead; what agents tell may be old by a loop."""
    deadline = time.monotonic() + _STALE_SECONDS
    while True:
        view = view_of(engine.read(*keys.state), keys)
        member = view.members.get(to)
        is_unfit = view.leader is None or member is None or bool(member.unfit)
        if not is_unfit or time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_SECONDS)
    why = _why_no_move(view, to)
    if why:
        typer.echo(f"synap: {why}", err=True)
        raise typer.Exit(EXIT_FAILED)


def _why_no_move(view: View, to: str) -> str:
    member = view.members.get(to)
    if view.leader is None:
        return "nobody leads"
    if view.leader.id == to:
        return f"{to} leads already"
    if member is None:
        return f"{to} is not there; there are {', '.join(sorted(view.members))}"
    return f"{to} can't lead: {member.unfit}" if member.unfit else ""


def _set_paused(config: Path | None, *, is_paused: bool) -> None:
    engine, keys = _engine(config)
    view = view_of(engine.read(*keys.state), keys)
    settings = msgspec.structs.replace(view.settings or Settings(), is_paused=is_paused)
    if view.settings is None or not engine.change(
        [Unchanged(keys.config, view.revisions[keys.config])], [Put(keys.config, encoded(settings))]
    ):
        typer.echo("synap: the cluster has no master yet, or was changed just now", err=True)
        raise typer.Exit(EXIT_FAILED)
    typer.echo("maintenance: nobody takes over" if is_paused else "the agents work again")


def _engine(path: Path | None) -> tuple[Engine, Keys]:
    config: Config = load_config(path)
    if config.failover.engine == "none":
        raise ConfigInvalid(["failover.engine is none: there are no agents here"])
    return engine_of(config), Keys(config.failover.cluster)
