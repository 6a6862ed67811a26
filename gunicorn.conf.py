"""Gunicorn's configuration: this file is what runs Synap's HTTP side.

`synap serve` starts it beside the log's owner and keeps both running. It also works alone, from
any folder, where the owner is run by other means:

    SYNAP_CONFIG=node.yaml python -m workers.writer          # or workers.replica
    SYNAP_CONFIG=node.yaml gunicorn --config gunicorn.conf.py

Every value comes from the node's configuration: the file that SYNAP_CONFIG names, and the variables
SYNAP_<SECTION>__<KEY> over it. Without either the defaults of docs/configuration.md hold. HUP reads
it all again; TTIN and TTOU add and remove a worker. In an installed Synap the file lies in the
package `workers`.

SYNAP_WORKER_CLASS chooses what speaks HTTP: `uvicorn` (uvicorn-worker, the default) or `synap`.
"""

from __future__ import annotations

import os
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

# The application is put together in each worker; its modules are imported once for all of them.
import synap.http.app  # noqa: F401
from synap.addresses import join_address
from synap.handed_config import config_of_environment
from workers.logs import configure
from workers.process import die_with_parent, kill_when_orphaned

_WORKER_CLASSES = {
    "uvicorn": "uvicorn_worker.UvicornWorker",
    "synap": "synap.http.worker.SynapWorker",
}

die_with_parent()
_config = config_of_environment()
_log = configure(_config, "http")

wsgi_app = "synap.http.app:create_app_from_environment()"
proc_name = f"synap {_config.server.node_id}"
bind = join_address(_config.server.host, _config.server.port)
backlog = 2048
workers = _config.server.workers
worker_class = _WORKER_CLASSES[os.environ.get("SYNAP_WORKER_CLASS") or "uvicorn"]
# A worker's heartbeat is a file; on a disk, a slow sync could make it look dead.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# By default it would lie in the user's home, where the nodes of one user would share it.
control_socket_disable = True
# Longer than the idle time of the usual load balancers, so that they close first.
keepalive = 75
# The longest that a request may wait, and a little.
graceful_timeout = 7
# Whose X-Forwarded-For is believed, the application decides by server.trusted_proxies.
forwarded_allow_ips = ""
timeout = 30
logger_class = "workers.gunicorn_logger.GunicornLogger"
accesslog = None


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Tie the worker to the arbiter's life, and log from a thread of its own."""
    kill_when_orphaned(server.pid)
    _log.start()
