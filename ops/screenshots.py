"""Make the pictures of the console in docs/: a cluster with some load, in a real browser.

    python -m ops.screenshots                 into docs/console
    python -m ops.screenshots --folder DIR

Needs Debian's chromium. Takes about a minute, most of it for something to be in the charts.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Browser, Page, sync_playwright

from ops.client import Client, UnexpectedAnswer
from ops.processes import ServerProcess, StartFailed, accepts, free_base_port

REPLICAS = 2
DEFAULT_PORT = 15500
# Of `synap cluster`, from its base port on.
_PORTS = (0, 1, 2, 10, 11, 12, 20, 21, 22)
_START_SECONDS = 60
_LOAD_SECONDS = 45
_WIDE = (1200, 800)
# Twice the length of the master's card, so that a phone shows something of the replicas.
_NARROW = (360, 760)
_NO_ANSWER = (OSError, http.client.HTTPException, UnexpectedAnswer)
_PEOPLE = ("Ada", "Alan", "Barbara", "Edsger", "Grace", "Ken", "Leslie", "Radia", "Tim", "Tony")


@contextmanager
def running_cluster() -> Iterator[str]:
    """Run a cluster and yield its master's URL."""
    is_free = not any(accepts(DEFAULT_PORT + step) for step in _PORTS)
    base = DEFAULT_PORT if is_free else free_base_port(_PORTS)
    url = f"http://127.0.0.1:{base}"
    command = [sys.executable, "-m", "workers.main", "cluster", "--replicas", str(REPLICAS)]
    with tempfile.TemporaryDirectory(prefix="synap-pictures-") as folder:
        command += ["--base-port", str(base), "--data-dir", str(Path(folder, "data"))]
        log, environment = Path(folder, "log"), {"SYNAP_CONSOLE__WRITE": "true"}
        with ServerProcess(command, log, environment) as server:
            server.wait_until(lambda: _is_whole(url), "the cluster", _START_SECONDS)
            yield url


def _is_whole(url: str) -> bool:
    with suppress(*_NO_ANSWER), Client(url, timeout_seconds=2) as client:
        replicas = client.get("/health/replication")["replicas"]
        return [each["status"] for each in replicas] == ["in_sync"] * REPLICAS
    return False


def fill(url: str) -> None:
    """Write what the pictures show."""
    with Client(url) as client:
        for number in range(400):
            name = _PEOPLE[number % len(_PEOPLE)]
            user = {"name": name, "age": 30 + number % 40, "groups": ["staff", "readers"]}
            pairs = [[f"user:{number}:profile", user], [f"user:{number}:visits", number * 7]]
            client.post("/kv/mset", {"pairs": pairs})
        for number in range(60):
            client.post("/kv/set", {"key": f"session:{number:04x}", "value": "open", "ttl": 3600})
        client.post("/kv/set", {"key": "motd", "value": "Welcome. Keys are text, values any JSON."})
        client.post("/snapshot", {})


class Load:
    """Reads and writes until it is stopped, now more and now less."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        chance, turn = random.Random(1), 0
        with Client(self._url) as client:
            while not self._over.is_set():
                turn += 1
                number = chance.randrange(400)
                key = f"user:{number}:visits"
                if chance.random() < 0.3:
                    client.post("/kv/incr", {"key": key})
                else:
                    client.get(f"/kv/get/{key}")
                # Busier for a while, then quieter.
                self._over.wait(0.002 if turn % 4000 < 2500 else 0.02)


def take(browser: Browser, url: str, folder: Path) -> None:
    """Make all pictures."""
    page = browser.new_page(viewport={"width": _WIDE[0], "height": _WIDE[1]})
    page.goto(f"{url}/console")
    page.wait_for_selector(".replicas")
    page.wait_for_timeout(_LOAD_SECONDS * 1000)
    # Between two writes of the load.
    page.wait_for_selector(".question >> text=Yes")
    _picture(page, folder, "cluster")
    page.emulate_media(color_scheme="dark")
    _picture(page, folder, "cluster-dark")
    page.emulate_media(color_scheme="light")
    _go(page, "charts", ".plot canvas")
    page.set_viewport_size({"width": _WIDE[0], "height": 840})
    _picture(page, folder, "charts")
    page.set_viewport_size({"width": _WIDE[0], "height": _WIDE[1]})
    _take_keys(page, folder)
    _go(page, "changes", ".changes")
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Pause").click()
    _picture(page, folder, "changes")
    _go(page, "operations", ".command")
    _picture(page, folder, "operations")
    page.set_viewport_size({"width": _NARROW[0], "height": _NARROW[1]})
    _go(page, "cluster", ".replicas")
    _picture(page, folder, "narrow")


def _take_keys(page: Page, folder: Path) -> None:
    _go(page, "keys", ".rows")
    rows = page.locator(".rows")
    rows.get_by_role("button", name="user:").click()
    rows.get_by_role("button", name="17:", exact=True).click()
    rows.get_by_role("button", name="profile").click()
    page.get_by_role("button", name="Edit", exact=True).click()
    profile = {"name": "Radia", "age": 48, "groups": ["staff", "writers"]}
    value = page.get_by_label("Value")
    before = json.loads(value.input_value())
    value.fill(json.dumps(before, indent=2))
    page.get_by_role("button", name="Review").click()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_label("Value").wait_for()
    page.get_by_role("button", name="Text").click()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Value").fill(json.dumps(before | profile, indent=2))
    page.get_by_role("button", name="Review").click()
    _picture(page, folder, "keys")


def _go(page: Page, room: str, wanted: str) -> None:
    page.evaluate("room => { location.hash = `#${room}`; }", room)
    page.wait_for_selector(wanted)


def _picture(page: Page, folder: Path, name: str) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    page.screenshot(path=folder / f"{name}.png")
    typer.echo(f"{folder / name}.png")


def main(
    folder: Annotated[Path, typer.Option(help="Where they go.")] = Path("docs/console"),
) -> None:
    """Make the pictures of the console."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("pictures need chromium: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    try:
        with running_cluster() as url, sync_playwright() as playwright:
            fill(url)
            browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
            with Load(url):
                take(browser, url, folder)
            browser.close()
    except StartFailed as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
