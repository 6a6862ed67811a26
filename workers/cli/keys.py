"""`synap secret` and `synap keygen`: what members of a cluster are known by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synap.replication.transport.curve import make_cluster_secret, make_secret_key

_FILE_NAME = "synap.key"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("secret")(secret_command)
    app.command("keygen")(keygen_command)


def secret_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it goes; kept if there.")],
) -> None:
    """Write a new secret of a cluster, `replication.secret`, which only you may read."""
    is_made = make_cluster_secret(file)
    typer.echo(f"{'made' if is_made else 'kept'} {file}", err=True)


def keygen_command(
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"Folder of the file, which is named {_FILE_NAME}."),
    ] = None,
    secret_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file itself.")
    ] = None,
) -> None:
    """Write a new secret key, which only you may read, and print its public key."""
    if output_dir is not None and secret_key_file is not None:
        raise typer.BadParameter("give --output-dir or --secret-key-file, not both")
    path = secret_key_file or (output_dir or Path()) / _FILE_NAME
    public = make_secret_key(path)
    typer.echo(f"the secret key is in {path}", err=True)
    typer.echo(public)
