"""Where nodes keep their run directories: sockets and shared memory, gone with the machine.

Apart from `synap/paths.py` because the containers' health check reads it every few seconds and
can't afford the configuration's imports.
"""

from __future__ import annotations

import os
from pathlib import Path


def own_runs_dir() -> Path:
    """Return the folder of this user's run directories where the environment names no other."""
    return Path("/tmp", f"synap-{os.getuid()}")


def runs_dir() -> Path:
    """Return the folder that holds a run directory for each node of this user."""
    chosen = os.environ.get("SYNAP_RUN_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    return Path(chosen, "synap") if chosen else own_runs_dir()
