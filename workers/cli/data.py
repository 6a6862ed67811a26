"""`synap get`, `set`, `del`, `incr` and `scan`: keys and values, from a shell.

Values go as they are, bytes included. What a script has to tell apart are the exit codes: the key
is not there, or not as it must be (1), or the node did not answer or refused (3).
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

import typer

from workers.cli.http_call import CallFailed, CallRefused, Reply, call
from workers.cli.options import DEFAULT_URL, NodeUrl
from workers.printable import printable

EXIT_NOT_SO = 1
EXIT_NOT_DONE = 3
# Refusals that answer the question which was asked.
_NOT_SO = ("key_not_found", "precondition_failed", "account_not_found")
_PAGE_KEYS = 1000
T = TypeVar("T")
_JSON = {"Content-Type": "application/json"}


class Form(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"
    RAW = "raw"


Output = Annotated[
    Form,
    typer.Option(
        "--output", "-o", help="text, json, or raw: the bytes alone, keys with a NUL behind each."
    ),
]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]
IfVersion = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION", help="Only where the key has this version; 0 where it is absent."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("get")(get_command)
    app.command("set")(set_command)
    app.command("del")(del_command)
    app.command("incr")(incr_command)
    app.command("scan")(scan_command)


def get_command(key: Key, url: NodeUrl = DEFAULT_URL, output: Output = Form.TEXT) -> None:
    """Print a key's value.

    Exit codes: 0; 1 where there is no such key; 2 wrong use; 3 no answer, or refused.
    """
    reply = asked("GET", url, _raw(key))
    if output is Form.JSON:
        _print_json({"key": key, **_value_fields(reply.body), "version": reply.etag})
    elif output is Form.RAW:
        _write(reply.body)
    else:
        _print_text(reply.body)


def set_command(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="- reads standard input.")],
    ttl: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="How long the key lives.")
    ] = None,
    nx: Annotated[bool, typer.Option("--nx", help="Only where the key is absent.")] = False,
    xx: Annotated[bool, typer.Option("--xx", help="Only where the key exists.")] = False,
    if_version: IfVersion = None,
    url: NodeUrl = DEFAULT_URL,
    output: Output = Form.TEXT,
) -> None:
    """Write a key, and print the version that it has now.

    Exit codes: 0; 1 where the condition did not hold, and nothing changed; 2 wrong use; 3 no
    answer, or refused.
    """
    if nx + xx + (if_version is not None) > 1:
        raise typer.BadParameter("give one of --nx, --xx and --if-version")
    body = sys.stdin.buffer.read() if value == "-" else value.encode(errors="surrogateescape")
    path = _raw(key) + ("" if ttl is None else f"?ttl={ttl}")
    reply = asked("PUT", url, path, body, _condition(nx=nx, xx=xx, if_version=if_version))
    version = str(_object_of(reply)["version"])
    if output is Form.JSON:
        _print_json({"key": key, "version": version})
    else:
        typer.echo(printable(version))


def del_command(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="The keys.")],
    if_version: IfVersion = None,
    url: NodeUrl = DEFAULT_URL,
    output: Output = Form.TEXT,
) -> None:
    """Delete keys, all at once, and print how many there were.

    Exit codes: 0; 1 where none was there, or the condition did not hold; 2 wrong use; 3 no answer,
    or refused.
    """
    if if_version is None:
        body = json.dumps({"keys": keys}).encode()
        deleted = int(_object_of(asked("POST", url, "/kv/mdel", body, _JSON))["deleted"])
    elif len(keys) == 1:
        reply = asked("DELETE", url, _raw(keys[0]), None, _condition(if_version=if_version))
        deleted = int(_object_of(reply)["deleted"])
    else:
        raise typer.BadParameter("--if-version wants a single key")
    if output is Form.JSON:
        _print_json({"deleted": deleted})
    else:
        typer.echo(deleted)
    if not deleted:
        raise typer.Exit(EXIT_NOT_SO)


def incr_command(
    key: Key,
    by: Annotated[int, typer.Option("--by", metavar="N", help="May be negative.")] = 1,
    url: NodeUrl = DEFAULT_URL,
    output: Output = Form.TEXT,
) -> None:
    """Add to the whole number that a key holds, and print the sum; a missing key counts as 0.

    Exit codes: 0; 2 wrong use; 3 no answer, or refused, as where the value is no number.
    """
    body = json.dumps({"key": key, "amount": by}).encode()
    value = int(_object_of(asked("POST", url, "/kv/incr", body, _JSON))["value"])
    if output is Form.JSON:
        _print_json({"key": key, "value": value})
    else:
        typer.echo(value)


def scan_command(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="What they begin with.")] = "",
    pattern: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only keys that this fits, as 'user:*:name'.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many.")] = None,
    url: NodeUrl = DEFAULT_URL,
    output: Output = Form.TEXT,
) -> None:
    """Print the keys that begin with PREFIX, in the order of their bytes, one on each line.

    Exit codes: 0, also where there is none; 2 wrong use; 3 no answer, or refused.
    """
    found = _scan(url, prefix, pattern, limit)
    if output is Form.JSON:
        _print_json(list(found))
        return
    for key in found:
        if output is Form.RAW:
            _write(key.encode() + b"\0")
        else:
            _print_text(key.encode())


def asked(
    method: str,
    url: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Return a node's answer; else end with the words and the code for what went wrong.

    Raises:
        typer.Exit: EXIT_NOT_SO where the node says that it is not so, else EXIT_NOT_DONE.
    """
    return ended(lambda: call(method, url, path, body, headers))


def ended(ask: Callable[[], T]) -> T:
    """Return what `ask` returns; as `asked`."""
    try:
        return ask()
    except CallRefused as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_NOT_SO if error.reason in _NOT_SO else EXIT_NOT_DONE) from error
    except CallFailed as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_NOT_DONE) from error


def _scan(url: str, prefix: str, pattern: str | None, limit: int | None) -> Iterator[str]:
    cursor, left = "", limit
    while True:
        query = {"prefix": prefix, "limit": str(min(left or _PAGE_KEYS, _PAGE_KEYS))}
        query |= {"pattern": pattern} if pattern is not None else {}
        query |= {"cursor": cursor} if cursor else {}
        page = _object_of(asked("GET", url, f"/kv/scan?{urlencode(query)}"))
        yield from map(str, page["keys"])
        left = None if left is None else left - len(page["keys"])
        cursor = page["cursor"] or ""
        if not page["has_more"] or not cursor or left == 0:
            return


def _raw(key: str) -> str:
    return f"/raw/{quote(key, safe='', errors='surrogateescape')}"


def _condition(
    *, nx: bool = False, xx: bool = False, if_version: str | None = None
) -> dict[str, str]:
    if nx or if_version == "0":
        return {"If-None-Match": "*"}
    if xx:
        return {"If-Match": "*"}
    return {} if if_version is None else {"If-Match": f'"{if_version}"'}


def _object_of(reply: Reply) -> dict[str, Any]:
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        typer.echo("synap: the answer is no JSON object, and so no Synap node's", err=True)
        raise typer.Exit(EXIT_NOT_DONE)
    return found


def _value_fields(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}


def _print_json(document: Any) -> None:
    # In ASCII: nothing in it means something to a terminal.
    typer.echo(json.dumps(document))


def _print_text(value: bytes) -> None:
    """Write a value and a line end; on a terminal without what would change it."""
    if sys.stdout.isatty():
        text = value.decode(errors="backslashreplace")
        value = "\n".join(map(printable, text.split("\n"))).encode()
    _write(value + b"\n")


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
