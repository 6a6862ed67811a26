"""The options of every command that speaks to a running node, in one place.

`NodeUrl` and its kin take a host, host:port or URL. A command that has one of them gets the options
for credentials and TLS too, by `HttpGroup`: they set the variables of the environment that the
calls read, so they mean the same before the command's name and behind it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from typer.core import TyperGroup

from synap.addresses import join_address
from synap.config.variables import (
    CA_VARIABLE,
    CLIENT_CERTIFICATE_VARIABLE,
    CLIENT_KEY_VARIABLE,
    INSECURE_VARIABLE,
    SECRET_FILE_SUFFIX,
)
from synap.login_environment import API_KEY, PASSWORD, USER

URL_VARIABLE = "SYNAP_URL"
DEFAULT_URL = "http://127.0.0.1:15500"
HELP_NAMES = {"help_option_names": ["-h", "--help"]}
_DEFAULT_PORT = 15500
_WORDS = "host, host:port or URL"


def node_url(text: str) -> str:
    """Return the URL that a host, a host with a port, or a URL stands for.

    Raises:
        typer.BadParameter: it is none of these.
    """
    text = text.strip()
    if "://" not in text:
        return f"http://{_authority(text)}"
    parts = urlsplit(text)
    try:
        _ = parts.port
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{text!r} is no {_WORDS}")
    if parts.username is not None or parts.query or parts.fragment:
        raise typer.BadParameter("a node's URL has no user, query or fragment; see --user")
    return text.rstrip("/")


def named_urls(urls: Sequence[str] | None, hosts: Path | None) -> list[str]:
    """Return the nodes that the operator named, each once; the default where that is none.

    Args:
        urls: Of --url.
        hosts: Of --hosts: an address in each line; those that begin with # are left out.

    Raises:
        OSError: the file can't be read.
    """
    lines = [] if hosts is None else hosts.read_text(encoding="utf-8").splitlines()
    listed = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    named = [*(urls or []), *map(node_url, listed)] or [DEFAULT_URL]
    return list(dict.fromkeys(named))


def local_or_url(url: str | None, *local: Path | None) -> str | None:
    """Return the URL to ask; None where the node is one of this machine, named by `local`."""
    if url is not None or any(each is not None for each in local):
        return url
    named = os.environ.get(URL_VARIABLE)
    return node_url(named) if named else None


def _authority(text: str) -> str:
    is_bare_ipv6 = text.count(":") > 1 and "[" not in text
    try:
        parts = urlsplit(f"//[{text}]" if is_bare_ipv6 else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no {_WORDS}: {error}") from error
    if not host or parts.username is not None or parts.path or parts.query or parts.fragment:
        raise typer.BadParameter(f"{text!r} is no {_WORDS}")
    return join_address(host, _DEFAULT_PORT if port is None else port)


NodeUrl = Annotated[
    str,
    typer.Option(
        "--url", parser=node_url, metavar="URL", envvar=URL_VARIABLE,
        help="The node's HTTP address, as host, host:port or URL.",
    ),
]  # fmt: skip
Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--url", parser=node_url, metavar="URL", envvar=URL_VARIABLE,
        help="A node's HTTP address; give it several times for several.",
    ),
]  # fmt: skip
Hosts = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with the nodes' addresses, a line each.")
]
RemoteUrl = Annotated[
    str | None,
    typer.Option(
        "--url", parser=node_url, metavar="URL",
        help="Its HTTP address, where it is on another machine; else SYNAP_URL.",
    ),
]  # fmt: skip


class HttpGroup(TyperGroup):
    """The commands, each that asks a node with the options of the connection."""

    def __init__(self, **settings: Any) -> None:
        """Take the commands, as Typer makes them, and give them the options."""
        super().__init__(**settings)
        connection = typer.Typer(add_completion=False)
        connection.command()(_connection)
        _extend(self, typer.main.get_command(connection).params)


def _extend(command: Any, options: Sequence[Any]) -> None:
    """Add the options to a command, and to those below it, where they ask a node."""
    # Options before all commands hold for each; `diff` has its nodes as arguments.
    is_asking = any("--url" in each.opts for each in command.params)
    if is_asking or command.name in ("", "diff"):
        command.params.extend(options)
    for each in getattr(command, "commands", {}).values():
        _extend(each, options)


def _take(parameter: typer.CallbackParam, value: Any) -> None:
    """Set what an option of the connection stands for; it wins over the environment."""
    if value is None or value is False:
        return
    variable = _VARIABLES[str(parameter.name)]
    os.environ[variable] = "1" if value is True else str(value)
    if variable in (USER, API_KEY):
        os.environ.pop(API_KEY + SECRET_FILE_SUFFIX, None)
    if variable == USER:
        os.environ.pop(API_KEY, None)


_VARIABLES = {
    "user": USER,
    "password_file": PASSWORD + SECRET_FILE_SUFFIX,
    "api_key": API_KEY,
    "cacert": CA_VARIABLE,
    "cert": CLIENT_CERTIFICATE_VARIABLE,
    "key_file": CLIENT_KEY_VARIABLE,
    "insecure": INSECURE_VARIABLE,
}


def _of_connection(name: str, words: str, metavar: str | None = None) -> Any:
    return typer.Option(
        name, help=words, metavar=metavar, callback=_take, expose_value=False,
        rich_help_panel="Connection",
    )  # fmt: skip


def _connection(
    user: Annotated[
        str | None, _of_connection("--user", "Else SYNAP_USER; a password is asked for.")
    ] = None,
    password_file: Annotated[
        Path | None, _of_connection("--password-file", "Else SYNAP_PASSWORD_FILE.", "FILE")
    ] = None,
    api_key: Annotated[
        str | None, _of_connection("--api-key", "Better in SYNAP_API_KEY_FILE.")
    ] = None,
    cacert: Annotated[
        Path | None, _of_connection("--cacert", "Authorities in PEM; else the system's.", "FILE")
    ] = None,
    cert: Annotated[
        Path | None, _of_connection("--cert", "Certificate in PEM to show the node.", "FILE")
    ] = None,
    key_file: Annotated[
        Path | None, _of_connection("--key", "Its key, where not in the same file.", "FILE")
    ] = None,
    insecure: Annotated[
        bool, _of_connection("--insecure", "Do not check the node's certificate.")
    ] = False,
) -> None:
    """The options themselves."""
