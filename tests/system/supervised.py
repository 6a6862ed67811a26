"""A supervisor over tiny children, run as a process of its own by `test_supervisor.py`.

Arguments: a folder, and a JSON list of children with `name`, `code` (Python source, which sees
`folder` and `note(word)`), and what else a `ChildSpec` may have; `renewed` is a child that it
becomes. What children note goes to the file `notes`, a line each, with the name of the child, the
word and its pid.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.child import ChildSpec, Liveness, RestartPolicy
from workers.process import child_environment
from workers.supervisor import Supervisor

PRELUDE = """
import os, pathlib, signal, subprocess, sys, time
from workers.process import die_with_parent
die_with_parent()
folder = pathlib.Path({folder!r})
def note(word):
    with (folder / "notes").open("a") as notes:
        notes.write(f"{name} {{word}} {{os.getpid()}}\\n")
def note_signal(number, frame=None):
    note(signal.Signals(number).name)
def leave(number, frame=None):
    note_signal(number)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
"""


def spec_of(child: dict[str, Any], folder: Path) -> ChildSpec:
    renewed = child.get("renewed")
    prelude = PRELUDE.format(folder=str(folder), name=child["name"])
    ticks = folder / f"{child['name']}.tick"
    return ChildSpec(
        name=child["name"],
        command=(sys.executable, "-P", "-c", prelude + child["code"]),
        environment=child_environment(os.environ, None, {}),
        stop_seconds=child.get("stop_seconds", 5.0),
        stop_stage=child.get("stop_stage", 0),
        forwards=frozenset(signal.Signals[name] for name in child.get("forwards", ())),
        refusal_codes=frozenset(child.get("refusal_codes", ())),
        renewal_codes=frozenset(child.get("renewal_codes", ())),
        renew=_renew_from(folder, child, renewed) if renewed else None,
        tick_ns=(lambda pid: _tick_of(ticks, pid)) if child.get("ticks") else None,
    )


def _renew_from(
    folder: Path, child: dict[str, Any], renewed: dict[str, Any]
) -> Callable[[], ChildSpec]:
    """Return what makes the child another one, `renewed`, once the file `renewed` is there."""

    def renew() -> ChildSpec:
        return spec_of(renewed if (folder / "renewed").exists() else child, folder)

    return renew


def _tick_of(path: Path, pid: int) -> int:
    try:
        owner, tick = path.read_text().split()
    except (FileNotFoundError, ValueError):
        return 0
    return int(tick) if int(owner) == pid else 0


def main() -> int:
    folder = Path(sys.argv[1])
    children = json.loads(sys.argv[2])
    return Supervisor(
        [spec_of(child, folder) for child in children],
        policy=lambda: RestartPolicy(first_seconds=0.01, cap_seconds=0.02, limit=4),
        liveness=lambda: Liveness(limit_seconds=0.5),
    ).run()


if __name__ == "__main__":
    sys.exit(main())
