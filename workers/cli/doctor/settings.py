"""A node's configuration: its faults, what it leaves open, and names that were meant otherwise."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from synap.addresses import is_loopback
from synap.config.keys import Config
from synap.config.loading import load_config, unread_variables
from synap.config.membership import check_membership, open_ports
from synap.config.variables import PREFIX, SECRET_FILE_SUFFIX
from synap.errors import ConfigInvalid
from synap.tls import check_tls, expires_at
from workers.cli.doctor.findings import Finding, fault, note, warning
from workers.cli.doctor.metrics import expiry_findings


def configuration(
    path: Path | None, data_dir: Path | None, environ: Mapping[str, str] = os.environ
) -> tuple[Config | None, list[Finding]]:
    """Read a node's configuration; return it, None where it is faulty, and what is wrong.

    Args:
        path: The file; None for SYNAP_CONFIG's, or none.
        data_dir: Where it is not the configured one.
        environ: The environment.
    """
    about = str(path or environ.get("SYNAP_CONFIG") or "the configuration")
    overrides = {} if data_dir is None else {"data_dir": str(data_dir)}
    try:
        return load_config(path, overrides, environ), []
    except ConfigInvalid as error:
        remedy = "`synap config check FILE` looks again; docs/configuration.md has every key"
        return None, [fault(f"{about}:", line, remedy) for line in str(error).splitlines()]


def variable_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the variables of the environment that nothing reads, with what may be meant."""
    for name, nearest in unread_variables(environ).items():
        remedy = f"did you mean {nearest}?" if nearest else "docs/configuration.md has the names"
        kind = warning if nearest else note
        yield kind(name, "is set in the environment, and nothing reads it", remedy)


def secret_file_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the files of secrets that others may read."""
    for name in sorted(environ):
        if not name.startswith(PREFIX) or not name.endswith(SECRET_FILE_SUFFIX):
            continue
        try:
            mode = stat.S_IMODE(os.stat(environ[name]).st_mode)
        except OSError as error:
            yield fault(name, f"names {environ[name]}: {error.strerror}", "put the file there")
            continue
        if mode & 0o044:
            yield warning(
                environ[name], f"({name}) may be read by others (mode {mode:04o})",
                f"`chmod 600 {environ[name]}`",
            )  # fmt: skip


def setting_findings(config: Config) -> Iterator[Finding]:
    """Yield what a valid configuration leaves open."""
    yield from _exposed(config)
    yield from _unsafe(config)
    yield from _certificates(config)


def _exposed(config: Config) -> Iterator[Finding]:
    if config.replication.role != "standalone":
        try:
            check_membership(config)
        except ConfigInvalid as error:
            yield fault("", str(error), "`synap secret FILE`, and the file on all nodes")
        else:
            if config.replication.is_open:
                yield warning("", open_ports(config), "`synap secret FILE` makes a secret")
    if not config.auth.enabled and not is_loopback(config.server.host):
        yield warning(
            f"server.host = {config.server.host}:",
            "whoever reaches it may do everything",
            "auth.enabled asks for credentials: docs/security.md",
        )


def _unsafe(config: Config) -> Iterator[Finding]:
    if not config.persistence.enabled:
        yield note("persistence.enabled", "is false: all is gone when the node ends", "as wanted?")
        return
    if not config.persistence.snapshot.enabled:
        yield warning(
            "persistence.snapshot.enabled", "is false: the log grows without end",
            "switch it on, or take snapshots by `synap snapshot`",
        )  # fmt: skip
    if config.persistence.wal.fsync_mode == "never":
        yield note(
            "persistence.wal.fsync_mode", "is never: a power cut may cost half a minute of writes",
            "periodic costs little: docs/operations.md, \"What can be lost when\"",
        )  # fmt: skip


def _certificates(config: Config) -> Iterator[Finding]:
    path = config.server.tls.cert_path
    if path is None:
        return
    try:
        check_tls(config)
        yield from expiry_findings(str(path), expires_at(path), time.time())
    except ConfigInvalid as error:
        yield fault("", str(error), 'docs/operations.md, "Serve over TLS"')
    except (OSError, ValueError) as error:
        yield fault(str(path), f"can't be read: {error}", 'docs/operations.md, "Serve over TLS"')
