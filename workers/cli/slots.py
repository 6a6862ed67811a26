"""`synap slots`: which cluster has which keys, what to move, and moving it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from synap.addresses import split_address
from synap.slots import SLOTS, moves, ranges
from workers.cli import http_call
from workers.cli.http_call import CallFailed
from workers.cli.options import DEFAULT_URL, NodeUrl
from workers.cli.slot_move import Cluster, MoveFailed, SlotMove

EXIT_FAILED = 1
_RUNTIME_SECONDS = 5.0
_ANSWER_SECONDS = 10.0

slots_app = typer.Typer(
    help="Keys on several clusters, by slots (docs/scaling.md).", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(slots_app, name="slots")


class HttpCalls:
    """The calls of `http_call`, as a move makes them."""

    def get(self, url: str, path: str, headers: dict[str, str], seconds: float) -> dict[str, Any]:
        return http_call.get(url, path, seconds, headers)

    def post(
        self, url: str, path: str, body: bytes, headers: dict[str, str], seconds: float
    ) -> dict[str, Any]:
        return http_call.post_bytes(url, path, body, headers, seconds)

    def lines(self, url: str, path: str, headers: dict[str, str]) -> Iterator[bytes]:
        with http_call.stream(url, path, headers=headers) as answer:
            yield from answer


@slots_app.command("show")
def show_command(
    as_map: Annotated[
        bool, typer.Option("--map", help="As the map of ops/haproxy-shards.cfg.")
    ] = False,
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Show which cluster has which slots, as one of them knows it."""
    told = http_call.get(url, "/cluster/slots", _ANSWER_SECONDS)
    if not told["slots"]:
        typer.echo(f"{url} has all keys: sharding.slots is not set")
        return
    if as_map:
        for slot, cluster in enumerate(_owners(told)):
            typer.echo(f"{slot} {cluster}")
        return
    for each in told["slots"]:
        own = "  (this one)" if each["cluster"] == told["cluster"] else ""
        typer.echo(f"{each['cluster']}  {_count(each['count'])} at {each['url']}{own}")
        typer.echo(f"  {each['slots']}")
    for each in told["moved"]:
        typer.echo(f"slot {each['slot']} is {each['state']}, with {each['cluster']}")


@slots_app.command("plan")
def plan_command(
    clusters: Annotated[
        str, typer.Argument(help="Names of all clusters that are to have slots, with commas.")
    ],
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Say which slots to move so that each cluster has as many; the fewest that it takes."""
    names = [name.strip() for name in clusters.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter("no cluster is named", param_hint="CLUSTERS")
    owners = _owners(http_call.get(url, "/cluster/slots", _ANSWER_SECONDS))
    found = moves(owners, names)
    for slot, cluster in found:
        typer.echo(f"{slot} {owners[slot]} {cluster}")
    typer.echo(f"{_count(len(found))} of {SLOTS} to move", err=True)


@slots_app.command("move")
def move_command(
    slot: Annotated[int, typer.Argument(min=0, max=SLOTS - 1)],
    source: Annotated[
        list[str], typer.Option("--from", help="A node of the old cluster; more than once.")
    ],
    target: Annotated[
        list[str], typer.Option("--to", help="A node of the new cluster; more than once.")
    ],
    address: Annotated[
        str, typer.Option("--address", help="Where clients reach the new cluster; else --to.")
    ] = "",
    proxies: Annotated[
        list[str] | None,
        typer.Option("--proxy", help="HAProxy's runtime socket: a path or host:port."),
    ] = None,
    map_name: Annotated[
        str, typer.Option("--map", help="The map's file, as HAProxy names it.")
    ] = "/etc/haproxy/slots.map",
    undo: Annotated[
        bool, typer.Option("--undo", help="Leave the slot where it was, until it is given away.")
    ] = False,
) -> None:
    """Move a slot to another cluster; run again, it goes on where it was interrupted."""

    def switch(cluster: str) -> None:
        for proxy in proxies or []:
            switch_map(proxy, map_name, slot, cluster)

    calls = HttpCalls()
    move = SlotMove(
        Cluster(calls, source, slot), Cluster(calls, target, slot), slot,
        target_url=address or target[0], tell=typer.echo, switch=switch,
    )  # fmt: skip
    try:
        if undo:
            move.undo()
            typer.echo(f"slot {slot} is where it was")
        else:
            typer.echo(f"writes of the slot were away for {move.run():.2f} s")
    except (MoveFailed, CallFailed, OSError) as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error


def switch_map(proxy: str, map_name: str, slot: int, cluster: str) -> None:
    """Have a HAProxy send a slot's keys to a cluster.

    Raises:
        OSError: it does not answer.
        MoveFailed: it refuses.
    """
    if "/" in proxy:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where: Any = proxy
    else:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        where = split_address(proxy)
    with connection:
        connection.settimeout(_RUNTIME_SECONDS)
        connection.connect(where)
        connection.sendall(f"set map {map_name} {slot} {cluster}\n".encode())
        answer = connection.recv(4096).decode(errors="replace").strip()
    if answer:
        raise MoveFailed(
            f"{proxy} refuses the map's change: {answer}. The slot is moved, and nodes say where "
            "to; run the move again"
        )


def _count(slots: int) -> str:
    return "1 slot" if slots == 1 else f"{slots} slots"


def _owners(told: dict[str, Any]) -> list[str]:
    """Return the cluster of each slot.

    Raises:
        CallFailed: some have none, as no node says.
    """
    owners = [""] * SLOTS
    for each in told["slots"]:
        for part in each["slots"].split(","):
            first, _, last = part.partition("-")
            for slot in range(int(first), int(last or first) + 1):
                owners[slot] = each["cluster"]
    missing = [slot for slot, owner in enumerate(owners) if not owner]
    if missing:
        raise CallFailed(f"nobody says whose slots {ranges(missing)} are: see sharding.slots")
    return owners
