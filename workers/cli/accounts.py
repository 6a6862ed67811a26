"""`synap user` and `synap key`: accounts of a cluster, at its master.

No password stands on a command line, where others on the machine see it: it is asked for twice, or
read from a file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.cli.data import ended
from workers.cli.http_call import delete, get, post
from workers.cli.options import DEFAULT_URL, NodeUrl
from workers.printable import printable

user_app = typer.Typer(help="Users: list, make and change them.", no_args_is_help=True)
key_app = typer.Typer(help="API keys: list, make and revoke them.", no_args_is_help=True)

_SECONDS = 60.0
# Where the output goes to a file or a pipe.
_PIPE_COLUMNS = 160

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--new-password-file", metavar="FILE", help="Read the new password here; - is stdin."
    ),
]
Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="table or json.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(user_app, name="user")
    app.add_typer(key_app, name="key")


@user_app.command("list")
def list_users(url: NodeUrl = DEFAULT_URL, output: Output = "table") -> None:
    """Show all users."""
    users = ended(lambda: get(url, "/auth/users", _SECONDS))["users"]
    rows = [
        (each["username"], ", ".join(each["roles"]), _yes(each["is_admin"]), _yes(each["enabled"]))
        for each in users
    ]
    _show(users, ("user", "roles", "admin", "enabled"), rows, output)


@user_app.command("add")
def add_user(
    name: Name,
    role: Annotated[
        list[str] | None, typer.Option(help="A role; give it several times for several.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may do everything.")] = False,
    new_password_file: PasswordFile = None,
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Make a user; its password is asked for twice."""
    body = {
        "username": name, "password": _new_password(new_password_file), "roles": role or [],
        "is_admin": admin,
    }  # fmt: skip
    _tell(ended(lambda: post(url, "/auth/users", body, _SECONDS)))


@user_app.command("password")
def set_password(
    name: Name, new_password_file: PasswordFile = None, url: NodeUrl = DEFAULT_URL
) -> None:
    """Give a user another password, which is asked for twice.

    An administrator may, at the master, for every user but root: that one is in the nodes'
    configuration. Where its password is forgotten, write a new one to the file that
    SYNAP_AUTH_ROOT_PASSWORD_FILE names (or to auth.root.password), on every node, and send each
    node's supervisor HUP; a variable's value itself wants a restart.
    """
    body = {"new_password": _new_password(new_password_file)}
    _tell(ended(lambda: post(url, f"{_user(name)}/password", body, _SECONDS)))


@user_app.command("disable")
def disable_user(name: Name, url: NodeUrl = DEFAULT_URL) -> None:
    """Turn a user away, and the user's keys, until it is enabled."""
    _tell(ended(lambda: post(url, f"{_user(name)}/disable", None, _SECONDS)))


@user_app.command("enable")
def enable_user(name: Name, url: NodeUrl = DEFAULT_URL) -> None:
    """Let a user in again."""
    _tell(ended(lambda: post(url, f"{_user(name)}/enable", None, _SECONDS)))


@user_app.command("remove")
def remove_user(name: Name, url: NodeUrl = DEFAULT_URL) -> None:
    """Remove a user, and the user's keys."""
    _tell(ended(lambda: delete(url, _user(name), _SECONDS)))


@key_app.command("list")
def list_keys(url: NodeUrl = DEFAULT_URL, output: Output = "table") -> None:
    """Show one's own keys; all of them to who may administer keys."""
    keys = ended(lambda: get(url, "/auth/keys", _SECONDS))["keys"]
    rows = [
        (each["id"], each["name"], each.get("username") or "", _time(each.get("expires_at")))
        for each in keys
    ]
    _show(keys, ("id", "name", "user", "expires"), rows, output)


@key_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    expires_in: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="When it ends; else never.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACTION=RESOURCE",
            help="All that it may do, as read=kv:report:*; else what you may.",
        ),
    ] = None,
    ip: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="From where; give it several times.")
    ] = None,
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Make a key for oneself, and print it, which happens this once."""
    body: dict[str, Any] = {"name": name}
    if expires_in is not None:
        body["expires_in_seconds"] = expires_in
    if allow:
        body["permissions"] = [_permission(each) for each in allow]
    if ip:
        body["allowed_ips"] = ip
    made = ended(lambda: post(url, "/auth/keys", body, _SECONDS))
    key = made["key"]
    typer.echo(f"the key {key['id']} is made; this is shown once:", err=True)
    typer.echo(key["key"])


@key_app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `synap key list` shows it.")],
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Revoke a key; requests with it are refused from now on."""
    _tell(ended(lambda: delete(url, f"/auth/keys/{quote(key_id, safe='')}", _SECONDS)))


def _user(name: str) -> str:
    return f"/auth/users/{quote(name, safe='')}"


def _permission(text: str) -> dict[str, str]:
    action, equals, resource = text.partition("=")
    if not equals or not resource:
        raise typer.BadParameter(f"{text} is not ACTION=RESOURCE", param_hint="--allow")
    return {"resource": resource, "action": action}


def _new_password(file: Path | None) -> str:
    if file is not None:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{file} can't be read: {error}") from error
        return text.rstrip("\r\n")
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask on; give --new-password-file")
    password = getpass("New password: ")
    if getpass("The same again: ") != password:
        raise typer.BadParameter("the passwords differ")
    return password


def _tell(answer: dict[str, Any]) -> None:
    typer.echo(printable(str(answer.get("message") or "done")))


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _time(seconds: object) -> str:
    if not isinstance(seconds, int):
        return "never"
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "no time of this calendar"


def _show(
    documents: object, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], output: str
) -> None:
    if output == "json":
        typer.echo(json.dumps(documents))
        return
    console = Console()
    console = console if console.is_terminal else Console(width=_PIPE_COLUMNS)
    table = Table(*columns)
    for row in rows:
        # As they are: a name may look like Rich's markup.
        table.add_row(*map(Text, row))
    console.print(table)
