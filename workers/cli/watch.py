"""`synap watch`: the changes of keys as they happen, one line for each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from workers.cli.http_call import CallFailed, CallRefused, stream
from workers.cli.options import DEFAULT_URL, NodeUrl
from workers.printable import printable

EXIT_FAILED = 1
EXIT_RESET = 3
# The node shows every 10 s that it is there.
_SILENCE_SECONDS = 30.0
# While a node is down, or another one takes over, it is asked again for so long.
_RETRY_SECONDS = 30.0
_PAUSE_SECONDS = 0.5
# A line of an event is at most the largest batch; what is longer is no node's.
_MAX_LINE_BYTES = 1024 * 1024 * 1024


class Reset(Exception):
    """The log does not go on from the position; the message says why."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("watch")(watch_command)


def watch_command(
    prefix: Annotated[str, typer.Argument(help="What the keys begin with; all without it.")] = "",
    begin: Annotated[
        str | None, typer.Option("--from", metavar="POSITION", help="Go on after this position.")
    ] = None,
    initial: Annotated[
        bool, typer.Option("--initial", help="First all keys, as they are now.")
    ] = False,
    count: Annotated[
        int, typer.Option(min=0, help="End after so many changes and keys; 0 for never.")
    ] = 0,
    output: Annotated[
        str, typer.Option("--output", "-o", help="`text`, or `json` for the events as they come.")
    ] = "text",
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Print the changes of keys as they happen.

    Where the connection breaks it goes on from where it was, without a gap. It ends with code 3
    where the node's log does not go on from there.
    """
    if output not in ("text", "json"):
        raise typer.BadParameter("allowed are text and json")
    if initial and begin is not None:
        raise typer.BadParameter("--initial begins with the keys as they are now: without --from")
    left = count
    try:
        for event in _events(url, prefix, begin, initial):
            lines = [json.dumps(event, ensure_ascii=True)] if output == "json" else _lines(event)
            for line in lines:
                typer.echo(line)
            left -= event["event"] in ("change", "entry")
            if count and left <= 0:
                return
    except Reset as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_RESET) from error
    except CallFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt:
        return


def _events(url: str, prefix: str, begin: str | None, initial: bool) -> Iterator[dict[str, Any]]:
    """Yield the events, over all connections that it takes.

    Raises:
        Reset: the log does not go on.
        CallFailed: the node does not answer, or refuses.
    """
    position, last_heard = begin, time.monotonic()
    while True:
        query = {"prefix": prefix}
        if position is not None:
            query["from"] = position
        elif initial:
            query["include"] = "initial"
        try:
            for event in _connection(url, query):
                last_heard = time.monotonic()
                if event["event"] == "reset":
                    raise Reset(
                        f"{event['reason']}: the node's log does not go on from {position}; it can "
                        f"be followed from {event['oldest']}"
                    )
                position = event.get("position", position)
                yield event
        except CallFailed as error:
            is_final = isinstance(error, CallRefused) and not error.is_for_now
            if is_final or time.monotonic() - last_heard > _RETRY_SECONDS:
                raise
        time.sleep(_PAUSE_SECONDS)


def _connection(url: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the events of one connection, up to its end.

    Raises:
        CallFailed: there was no answer, or no node's.
    """
    headers = {"Accept": "application/x-ndjson"}
    with stream(url, f"/watch?{urlencode(query)}", _SILENCE_SECONDS, headers) as answer:
        while line := answer.readline(_MAX_LINE_BYTES):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    # It was cut.
                    return
                raise CallFailed(f"{url} sends no events, and so is no Synap node") from error
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                raise CallFailed(f"{url} sends no events, and so is no Synap node")
            yield event


def _lines(event: dict[str, Any]) -> list[str]:
    """Return what a person reads of an event."""
    changes = event.get("changes", ())
    if event["event"] == "entry":
        changes = [{"op": "key", **event}]
    return [printable(f"{event.get('position', '-')} {_words(change)}") for change in changes]


def _words(change: dict[str, Any]) -> str:
    key = json.dumps(change.get("key", ""), ensure_ascii=False)
    match change.get("op"):
        case "set" | "key":
            value = change.get("value", change.get("value_base64"))
            told = "(left out)" if value is None else json.dumps(value, ensure_ascii=False)
            return f"{change['op']} {key} {told}"
        case "del":
            return f"del {key} {change.get('cause', '')}"
    return str(change.get("op"))
