"""Says in the log when the certificate of `server.tls` expires soon, or has expired.

The supervisor looks at every turn of its own; the file is read at the start and once a day. The
node's metric tells of the certificate that is served, this of the one that the file holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from synap.tls import expires_at

_DAY_SECONDS = 24 * 3600
# Automatic renewal has failed for a while by then, and there is time to mend it.
SOON_SECONDS = 14 * _DAY_SECONDS

logger = logging.getLogger(__name__)


class CertificateWatch:
    """Looks at one file, once a day."""

    def __init__(
        self, path: Path, now_seconds: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        """
        Args:
            path: In PEM.
            now_seconds: The wall clock.
            monotonic: A clock that nobody sets.
        """
        self._path = path
        self._now_seconds = now_seconds
        self._monotonic = monotonic
        self._due = 0.0

    def look(self) -> None:
        """Look, where a day has passed since the last time."""
        now = self._monotonic()
        if now < self._due:
            return
        self._due = now + _DAY_SECONDS
        try:
            left = expires_at(self._path) - self._now_seconds()
        except (OSError, ValueError) as error:
            logger.warning("the certificate can't be looked at: %s", error)
            return
        facts = {"action": "certificate", "seconds_left": int(left)}
        if left <= 0:
            logger.error(
                "the certificate in %s has expired; clients refuse the node",
                self._path,
                extra=facts,
            )
        elif left < SOON_SECONDS:
            days = int(left // _DAY_SECONDS)
            logger.warning(
                "the certificate in %s expires in %d days", self._path, days, extra=facts
            )
