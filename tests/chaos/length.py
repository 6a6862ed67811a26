"""How long the chaos tests run: a few rounds with every test run, all of them with `make chaos`."""

from __future__ import annotations

import os

_VARIABLE = "SYNAP_CHAOS_ROUNDS"

IS_LONG = _VARIABLE in os.environ
"""Whether the long forms were asked for."""
ROUNDS = int(os.environ.get(_VARIABLE, "20"))
"""Kills of a node or one of its processes, in all."""
