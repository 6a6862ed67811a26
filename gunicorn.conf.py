"""Gunicorn's configuration: this file is what runs Synap's HTTP side.

`synap serve` starts it beside the log's owner and keeps both running. It also works alone, from
any folder, where the owner is run by other means:

    SYNAP_CONFIG=node.yaml python -m workers.writer          # or workers.replica
    SYNAP_CONFIG=node.yaml gunicorn --config gunicorn.conf.py

Every value comes from the node's configuration: the file that SYNAP_CONFIG names, and the variables
SYNAP_<SECTION>__<KEY> over it. Without either the defaults of docs/configuration.md hold. HUP reads
it all again; TTIN and TTOU add and remove a worker. In an installed Synap the file lies in the
package `workers`.

SYNAP_WORKER_CLASS chooses what speaks HTTP: `synap` (the default) or `uvicorn` (uvicorn-worker).
"""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import ssl
import time
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from synap.addresses import join_address
from synap.config.handed import config_of_environment
from synap.http.server.limits import HttpLimits
from synap.node.paths import NodePaths
from synap.node.suspicion import note_reader_ended
from workers.log_output import configure
from workers.process import (
    allow_open_files,
    die_with_parent,
    importing,
    keep_private,
    kill_when_orphaned,
)

_WORKER_CLASSES = {
    "synap": "synap.http.server.worker.SynapWorker",
    "uvicorn": "uvicorn_worker.UvicornWorker",
}

die_with_parent()
keep_private()
# The application is put together in each worker; its modules are imported once for all of them,
# which look through them for no garbage, and so copy none of their pages.
with importing():
    importlib.import_module("synap.http.api.app")
_config = config_of_environment()
_log = configure(_config, "http")
_limits = HttpLimits.of(_config)
_tls = _config.server.tls
# Beside its clients, and those that shake hands yet, a worker has the store, the owner's socket,
# the board and the like open.
allow_open_files(_limits.max_connections * 5 // 4 + _config.watch.max_watchers + 512)

wsgi_app = "synap.http.api.app:create_app_from_environment()"
proc_name = f"synap {_config.server.node_id}"
bind = [join_address(_config.server.host, _config.server.port)]
if _tls.client_ca_path is not None:
    # For the node's own health check, which has no certificate that clients show.
    bind.append(f"unix:{NodePaths.of(_config).http_socket}")
backlog = 2048
workers = _config.server.workers
worker_class = _WORKER_CLASSES[os.environ.get("SYNAP_WORKER_CLASS") or "synap"]
worker_connections = _limits.max_connections
# A worker's heartbeat is a file; on a disk, a slow sync could make it look dead.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# By default it would lie in the user's home, where the nodes of one user would share it.
control_socket_disable = True
# Of the heartbeats' files: by default everybody may read and write them.
umask = 0o077
keepalive = _config.server.idle_timeout_secs
graceful_timeout = _config.server.answer_seconds
# Whose X-Forwarded-For is believed, the application decides by server.trusted_proxies.
forwarded_allow_ips = ""
timeout = 30
logger_class = "workers.gunicorn_logger.GunicornLogger"
accesslog = None
certfile = None if _tls.cert_path is None else str(_tls.cert_path)
keyfile = None if _tls.key_path is None else str(_tls.key_path)
ca_certs = None if _tls.client_ca_path is None else str(_tls.client_ca_path)
cert_reqs = ssl.CERT_NONE if ca_certs is None else ssl.CERT_REQUIRED


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Have a place where the worker leaves why a signal ended it; the arbiter tells nobody."""
    worker.started_ns = time.time_ns()
    worker.last_words = os.memfd_create("last-words")


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Tell the log's owner of a worker that the pages of the store ended."""
    words = os.pread(worker.last_words, 16_384, 0)
    os.close(worker.last_words)
    if b"Bus error" in words:
        logging.getLogger("workers.http").error(
            "worker %d was ended by SIGBUS: %s", worker.pid, words.decode(errors="replace"),
            extra={"action": "worker_ended"},
        )  # fmt: skip
        note_reader_ended(NodePaths.of(_config), worker.started_ns, "it ended a worker by SIGBUS")


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Tie the worker to the arbiter's life, bound its clients, log from a thread of its own."""
    for sibling in server.WORKERS.values():
        os.close(sibling.last_words)
    faulthandler.enable(worker.last_words, all_threads=False)
    kill_when_orphaned(server.pid)
    # Of use to the class `synap` alone.
    worker.limits = _limits
    _log.start()
