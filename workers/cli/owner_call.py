"""A call to the log's owner of a node on this machine, by its data directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from synap.config.loading import load_config
from synap.errors import WriterUnavailable
from synap.ipc.admin_messages import AdminCommand, AdminResult
from synap.ipc.admin_socket import ask
from synap.node.paths import NodePaths

_ANSWER_SECONDS = 10.0


def ask_here(config: Path | None, data_dir: Path | None, command: AdminCommand) -> AdminResult:
    """Have the owner of the configured log, or of that in `data_dir`, carry out `command`.

    Raises:
        WriterUnavailable: no node runs there; the message names the directory and the way out.
        SynapError: what the command, or the configuration, failed with.
    """
    given = {"data_dir": str(data_dir)} if data_dir is not None else {}
    loaded = load_config(config, given)
    try:
        return asyncio.run(ask(NodePaths.of(loaded).admin_socket, command, _ANSWER_SECONDS))
    except WriterUnavailable as error:
        raise WriterUnavailable(
            f"no node runs on {loaded.data_dir} here, or its log's owner is being started; nothing "
            "was done. Name the node's --data-dir, --config or --url"
        ) from error
