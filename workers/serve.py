"""One node in the foreground: the log's owner and Gunicorn under a supervisor."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synap.addresses import is_loopback, join_address, reachable_url
from synap.config.handed import hand_over
from synap.config.keys import Config
from synap.config.loading import load_config, unread_variables
from synap.config.membership import check_membership, open_ports
from synap.config.variables import FILE_VARIABLE
from synap.errors import ConfigInvalid, DataDirUnusable
from synap.node.identity import Node, lock_file, read_identity
from synap.node.paths import NodePaths
from synap.node.suspicion import suspect
from synap.replication.transport.curve import load_keys
from synap.shared.board import Board
from synap.shared.claimed_file import forget_contents
from synap.tls import check_tls
from workers.certificate_watch import CertificateWatch
from workers.child import ChildSpec
from workers.health import write_address
from workers.log_output import queued_logging
from workers.ports import check_ports
from workers.process import (
    EXIT_REFUSED,
    EXIT_ROLE_CHANGED,
    EXIT_RUN_DIR_LOST,
    child_environment,
    die_with_parent,
    python_command,
    raise_open_files,
)
from workers.run_dir_watch import RunDirWatch
from workers.supervisor import Supervisor
from workers.volatile import clear, create_private, volatile_settings

logger = logging.getLogger(__name__)

# Gunicorn's workers drain first; this is for it to end by itself after them.
_HTTP_STOP_SECONDS = 2.0
# A replica gets the last entries, and is told.
_HANDOVER_STOP_SECONDS = 20.0
# The owner writes out what LMDB has not yet.
_OWNER_STOP_SECONDS = 30.0
# A predecessor that was killed is gone within moments.
_HANDOVER_SECONDS = 3.0
# Deaths that pages which are not what was written lead to: beyond the file's end, or nonsense.
_DAMAGE_SIGNALS = frozenset({-signal.SIGBUS, -signal.SIGSEGV, -signal.SIGABRT})


def serve(path: Path | None, overrides: Mapping[str, Any]) -> int:
    """Run a node until it is told to stop, and return the exit code.

    Args:
        path: The configuration file; None for SYNAP_CONFIG's or none.
        overrides: The command line's values by dotted key.

    Raises:
        StartError: The configuration or the machine does not allow it.
    """
    die_with_parent()
    raise_open_files()
    path = path or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    config = _checked_config(path, overrides)
    if not config.persistence.enabled:
        overrides = {**overrides, **volatile_settings(config)}
        config = load_config(path, overrides)
        create_private(config.data_dir)
    paths = NodePaths.of(config)
    paths.create()
    paths.check_access()
    # Held until this process ends; children don't inherit it.
    lock_file(paths.lock_file, wait_seconds=_HANDOVER_SECONDS)
    if not config.persistence.enabled:
        clear(paths.data_dir, paths.lock_file)
        paths.create()
    if not paths.node_file.exists():
        # Another node had this directory, and what was counted of it is not this one's.
        forget_contents(paths.run_dir)
    node = Node.load_or_create(config, paths)
    _check_role(config, node)
    check_ports(
        _listened_addresses(config, node), "choose another in the configuration", _HANDOVER_SECONDS
    )
    with queued_logging(config, "supervisor"):
        _say_what_starts(config, node)
        _say_what_is_unread(os.environ)
        environment = child_environment(os.environ, path, overrides)
        handed = hand_over(config, path, environment)
        http = _http(config, environment, handed, lambda: _may_reload(path, overrides))
        while (code := _supervise(config, paths, environment, handed, http)) == EXIT_RUN_DIR_LOST:
            paths.create()
    if not config.persistence.enabled:
        clear(paths.data_dir, paths.lock_file)
    return code


def _supervise(
    config: Config, paths: NodePaths, environment: Mapping[str, str], handed: int, http: ChildSpec
) -> int:
    """Run the node's processes until they are to stop, or their run directory is gone."""
    board = Board(paths.board_file)
    # What an earlier run left on it must not speak for this one. A new file would need room.
    board.clear()
    write_address(paths.run_dir, _own_url(config))
    children = [_owner(paths, board, environment, handed), http]
    paths.failover_file.unlink(missing_ok=True)
    if config.failover.engine != "none":
        children.append(_agent(environment, handed))
    watch = RunDirWatch(paths.run_dir, paths.board_file)
    look = _certificate_look(config)

    def on_look() -> int | None:
        if look is not None:
            look()
        return EXIT_RUN_DIR_LOST if watch.is_emptied() else None

    try:
        return Supervisor(
            children,
            on_look=on_look,
            on_stop=board.start_draining,
            stop_delay_seconds=config.server.drain_delay_ms / 1000,
        ).run()
    finally:
        watch.close()
        board.close()


def _certificate_look(config: Config) -> Callable[[], None] | None:
    path = config.server.tls.cert_path
    return None if path is None else CertificateWatch(path, time.time, time.monotonic).look


def _checked_config(path: Path | None, overrides: Mapping[str, Any]) -> Config:
    config = load_config(path, overrides)
    load_keys(config)
    check_tls(config)
    if config.telemetry.endpoint is not None and find_spec("opentelemetry") is None:
        raise ConfigInvalid(["telemetry.endpoint: spans want pip install 'synap[otel]'"])
    return config


def _may_reload(path: Path | None, overrides: Mapping[str, Any]) -> bool:
    try:
        _checked_config(path, overrides)
    except ConfigInvalid as error:
        facts = {"action": "reload_refused"}
        logger.error("not reloaded, the node goes on as it was: %s", error, extra=facts)
        return False
    return True


def _owner(
    paths: NodePaths, board: Board, environment: Mapping[str, str], handed: int
) -> ChildSpec:
    """Return the process that owns the log: the writer, or on a replica the subscriber."""

    def owner_tick_ns(pid: int) -> int:
        view = board.view()
        return view.tick_ns if view.owner_pid == pid else 0

    def owner_died(code: int) -> None:
        if code in _DAMAGE_SIGNALS:
            suspect(paths, f"the log's owner was ended by {signal.Signals(-code).name}")
        board.note_owner_down()

    def owner() -> ChildSpec:
        # The role may have changed since the last start, by a promotion.
        try:
            name = "replica" if read_identity(paths.node_file).role == "replica" else "writer"
        except (OSError, DataDirUnusable):
            # Whoever is started says so, and ends.
            name = "writer"
        return ChildSpec(
            name=name,
            command=python_command(f"workers.{name}"),
            environment=environment,
            files=(handed,),
            stop_seconds=_OWNER_STOP_SECONDS,
            stop_stage=1,
            refusal_codes=frozenset({EXIT_REFUSED}),
            renewal_codes=frozenset({EXIT_ROLE_CHANGED}),
            renew=owner,
            tick_ns=owner_tick_ns,
            on_death=owner_died,
            gives_up=False,
        )

    return owner()


def _http(
    config: Config, environment: Mapping[str, str], handed: int, may_reload: Callable[[], bool]
) -> ChildSpec:
    return ChildSpec(
        name="http",
        command=python_command("gunicorn", "--config", str(gunicorn_file())),
        environment=environment,
        files=(handed,),
        stop_seconds=config.server.answer_seconds + _HTTP_STOP_SECONDS,
        stop_stage=0,
        forwards=frozenset({signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU}),
        may_reload=may_reload,
    )


def _agent(environment: Mapping[str, str], handed: int) -> ChildSpec:
    """Return the fail-over agent, which hands over before anything else stops."""
    return ChildSpec(
        name="failover",
        command=python_command("workers.failover"),
        environment=environment,
        files=(handed,),
        stop_seconds=_HANDOVER_STOP_SECONDS,
        stop_stage=-1,
        refusal_codes=frozenset({EXIT_REFUSED}),
        gives_up=False,
    )


def gunicorn_file() -> Path:
    """Return Gunicorn's configuration: in the installed package, or at the project's top level."""
    package = Path(__file__).resolve().parent
    installed = package / "gunicorn.conf.py"
    return installed if installed.exists() else package.parent / "gunicorn.conf.py"


def _check_role(config: Config, node: Node) -> None:
    if node.role != "standalone":
        check_membership(config)
    if node.role == "replica" and node.master_addresses(config) is None:
        raise ConfigInvalid(
            [
                "replication.master_address not set: this data directory belongs to a replica, "
                "which needs its master's PUB socket as host:port"
            ]
        )


def _listened_addresses(config: Config, node: Node) -> dict[str, str]:
    addresses = {"HTTP": join_address(config.server.host, config.server.port)}
    if node.role == "master":
        addresses["replication, PUB"] = config.replication.replica_listen_address
        addresses["replication, ROUTER"] = config.replication.sync_listen_address
    return addresses


def _own_url(config: Config) -> str:
    """Return where this machine reaches the node's HTTP."""
    return reachable_url(config.server.listen_url, "127.0.0.1")


def _say_what_is_unread(environ: Mapping[str, str]) -> None:
    """Warn of variables that nothing reads, where their names are nearly those of others."""
    for name, nearest in unread_variables(environ).items():
        if nearest:
            logger.warning(
                "%s is set, and nothing reads it; did you mean %s?", name, nearest,
                extra={"action": "unread_variable"},
            )  # fmt: skip


def _say_what_starts(config: Config, node: Node) -> None:
    address = join_address(config.server.host, config.server.port)
    is_local = is_loopback(config.server.host)
    logger.info(
        "%s %s on %s%s", node.role, config.server.node_id, config.server.listen_url,
        ", for this machine alone" if is_local else "",
    )  # fmt: skip
    if not config.persistence.enabled:
        logger.warning(
            "persistence is off: everything lies in %s and is gone when the node ends",
            config.data_dir,
        )
    if node.role != config.replication.role:
        logger.warning(
            "the data directory makes this node a %s; replication.role says %s and is not used",
            node.role,
            config.replication.role,
        )
    told = node.identity.master_address
    if node.role == "replica" and told not in ("", config.replication.master_address):
        logger.warning("the node follows %s, as it was told by `synap follow`", told)
    if node.identity.ended_by_epoch:
        logger.warning(
            "the node takes no writes: it has met epoch %d; `synap follow` makes it a replica",
            node.identity.ended_by_epoch,
        )
    if node.role != "standalone" and config.replication.is_open:
        logger.warning("%s", open_ports(config), extra={"action": "open_replication"})
    if not config.auth.enabled and not is_local:
        logger.warning(
            "%s can be reached from other machines, and every client may do everything; "
            "auth.enabled asks for credentials",
            address,
        )
