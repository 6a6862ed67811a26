"""The supervisor with real child processes: restarts, giving up, signals, reaping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import children_of, descendants_of, eventually, is_alive
from workers.process import PARENT_VARIABLE, child_environment

SLEEP = "note('up'); time.sleep(60)"
TICK = "(folder / 'owner.tick').write_text(f'{os.getpid()} 1'); "


class Supervised:
    """A running `tests.system.supervised`, and what its children noted."""

    def __init__(self, folder: Path, children: tuple[dict[str, Any], ...]) -> None:
        self.folder = folder
        environment = child_environment(os.environ, None, {})
        environment[PARENT_VARIABLE] = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.supervised", str(folder), json.dumps(children)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def notes(self, name: str) -> list[str]:
        """Return the words that the child `name` noted, in order."""
        return [word for child, word, _ in self._lines() if child == name]

    def pids(self, name: str) -> list[int]:
        """Return the pid of each note of the child `name`, in order."""
        return [int(pid) for child, _, pid in self._lines() if child == name]

    def order(self) -> list[str]:
        """Return `name word` of every note."""
        return [f"{child} {word}" for child, word, _ in self._lines()]

    def await_notes(self, name: str, count: int) -> list[str]:
        eventually(lambda: len(self.notes(name)) >= count)
        return self.notes(name)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Return the exit code and what was logged, when it has ended."""
        _, logged = self.process.communicate(timeout=15)
        return self.process.returncode, logged

    def kill(self) -> None:
        pids = [self.process.pid, *descendants_of(self.process.pid)]
        self.process.kill()
        self.process.communicate(timeout=15)
        eventually(lambda: not any(map(is_alive, pids)))

    def _lines(self) -> list[list[str]]:
        path = self.folder / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines if line.count(" ") == 2]


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    started: list[Supervised] = []

    def start(*children: dict[str, Any]) -> Supervised:
        started.append(Supervised(tmp_path, children))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def test_child_that_is_killed_is_started_again(supervise: Supervise) -> None:
    supervised = supervise({"name": "owner", "code": SLEEP})
    supervised.await_notes("owner", 1)
    first = supervised.pids("owner")[0]
    os.kill(first, signal.SIGKILL)
    assert supervised.await_notes("owner", 2) == ["up", "up"]
    assert supervised.pids("owner")[1] != first


def test_child_that_is_killed_leaves_its_sibling_running(supervise: Supervise) -> None:
    supervised = supervise({"name": "owner", "code": SLEEP}, {"name": "http", "code": SLEEP})
    supervised.await_notes("owner", 1)
    supervised.await_notes("http", 1)
    os.kill(supervised.pids("owner")[0], signal.SIGKILL)
    supervised.await_notes("owner", 2)
    assert supervised.notes("http") == ["up"]


def test_child_that_always_dies_ends_the_node_with_a_message(supervise: Supervise) -> None:
    code, logged = supervise({"name": "owner", "code": "note('up'); sys.exit(7)"}).end()
    assert code == 1
    assert "owner died 4 times within 60 s, last with exit code 7; the node ends" in logged


def test_child_that_refuses_ends_the_node_at_once(supervise: Supervise) -> None:
    supervised = supervise(
        {"name": "owner", "code": "note('up'); sys.exit(3)", "refusal_codes": [3]},
        {"name": "http", "code": SLEEP},
    )
    code, logged = supervised.end()
    assert code == 3
    assert "owner can't run; the node ends" in logged
    assert supervised.notes("owner") == ["up"]


def test_children_do_not_wait_for_one_another(supervise: Supervise) -> None:
    wait = "while not (folder / 'go').exists(): time.sleep(0.01)\n"
    supervised = supervise(
        {"name": "owner", "code": f"{wait}note('ready'); {TICK}time.sleep(60)", "ticks": True},
        {"name": "http", "code": SLEEP},
    )
    supervised.await_notes("http", 1)
    (supervised.folder / "go").touch()
    supervised.await_notes("owner", 1)
    assert supervised.order() == ["http up", "owner ready"]


def test_child_that_goes_mute_is_killed_and_started_again(supervise: Supervise) -> None:
    supervised = supervise(
        {"name": "owner", "code": f"note('up'); {TICK}time.sleep(60)", "ticks": True}
    )
    assert supervised.await_notes("owner", 2) == ["up", "up"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_stops_by_stages_and_exits_clean(
    supervise: Supervise, number: signal.Signals
) -> None:
    supervised = supervise(
        {"name": "owner", "code": SLEEP, "stop_stage": 1},
        {"name": "http", "code": SLEEP, "stop_stage": 0},
    )
    supervised.await_notes("owner", 1)
    supervised.await_notes("http", 1)
    supervised.send(number)
    code, _ = supervised.end()
    assert code == 0
    assert supervised.order()[-2:] == ["http SIGTERM", "owner SIGTERM"]


def test_child_that_ignores_the_stop_is_killed(supervise: Supervise) -> None:
    code = f"signal.signal(signal.SIGTERM, note_signal); {SLEEP}; time.sleep(60)"
    supervised = supervise({"name": "http", "code": code, "stop_seconds": 0.3})
    supervised.await_notes("http", 1)
    supervised.send(signal.SIGTERM)
    exit_code, logged = supervised.end()
    assert exit_code == 0
    assert "http did not stop in time; killing it" in logged


def test_second_stop_signal_does_not_wait(supervise: Supervise) -> None:
    code = f"signal.signal(signal.SIGTERM, note_signal); {SLEEP}; time.sleep(60)"
    supervised = supervise({"name": "http", "code": code, "stop_seconds": 60})
    supervised.await_notes("http", 1)
    supervised.send(signal.SIGTERM)
    supervised.await_notes("http", 2)
    supervised.send(signal.SIGTERM)
    assert supervised.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU])
def test_signal_is_passed_on_where_it_belongs(supervise: Supervise, number: signal.Signals) -> None:
    listen = f"signal.signal({int(number)}, note_signal); {SLEEP}; time.sleep(60)"
    supervised = supervise(
        {"name": "owner", "code": listen},
        {"name": "http", "code": listen, "forwards": [number.name]},
    )
    supervised.await_notes("owner", 1)
    supervised.await_notes("http", 1)
    supervised.send(number)
    assert supervised.await_notes("http", 2) == ["up", number.name]
    assert supervised.notes("owner") == ["up"]


def test_supervisor_killed_takes_its_children_with_it(supervise: Supervise) -> None:
    supervised = supervise({"name": "owner", "code": SLEEP}, {"name": "http", "code": SLEEP})
    supervised.await_notes("owner", 1)
    supervised.await_notes("http", 1)
    pids = supervised.pids("owner") + supervised.pids("http")
    supervised.send(signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, pids)))


def test_orphan_of_a_child_is_reaped(supervise: Supervise) -> None:
    orphan = "subprocess.Popen(['sleep', '0.2']); os._exit(0)"
    middle = f"import os, subprocess; {orphan}"
    supervised = supervise(
        {"name": "http", "code": f"subprocess.run([sys.executable, '-c', {middle!r}]); {SLEEP}"}
    )
    supervised.await_notes("http", 1)
    adopted = eventually(lambda: len(children_of(supervised.process.pid)) == 2)
    assert adopted
    eventually(lambda: children_of(supervised.process.pid) == supervised.pids("http"))


def test_child_that_asks_to_be_replaced_starts_at_once_as_what_it_is_by_then(
    supervise: Supervise,
) -> None:
    leave = "note('up'); (folder / 'renewed').touch(); sys.exit(4)"
    running = supervise(
        {
            "name": "old",
            "code": leave,
            "renewal_codes": [4],
            "renewed": {"name": "new", "code": SLEEP},
        }
    )
    running.await_notes("new", 1)
    assert running.order() == ["old up", "new up"]


def test_child_that_asks_to_be_replaced_again_and_again_is_no_failure(
    supervise: Supervise,
) -> None:
    running = supervise({"name": "busy", "code": "note('up'); sys.exit(4)", "renewal_codes": [4]})
    eventually(lambda: len(running.notes("busy")) > 4, 30)
    running.send(signal.SIGTERM)
    assert running.end()[0] == 0
