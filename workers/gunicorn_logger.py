"""Gunicorn's log.

Apart from `workers.log_output`, so that only Gunicorn's own process imports it.
"""

from __future__ import annotations

import logging

from gunicorn.config import Config
from gunicorn.glogging import Logger


class GunicornLogger(Logger):  # type: ignore[misc]
    """Gunicorn's records by the handlers of its process, instead of its own."""

    def setup(self, cfg: Config) -> None:
        self.cfg = cfg
        self.error_log.handlers = logging.getLogger().handlers
        self.error_log.propagate = False
        self.error_log.setLevel(logging.getLogger().level)
        # Without a handler no line is even made for a request.
        self.access_log.handlers = self.error_log.handlers if cfg.accesslog else []
        self.access_log.propagate = False
