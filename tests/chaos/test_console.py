"""The console over many keys and on a full disk, which take too long for every run of the tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Watched, chromium
from tests.chaos.length import IS_LONG
from tests.conftest import StartNode
from tests.disks import small_disk
from tests.support import HOST, Node
from tests.system.test_disk_full import DISK_BYTES, fill_until_refused

KEYS = 1_000_000
STEP = 10_000
PAINT_MS = 1000

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="takes minutes; `make chaos` runs it"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def watched() -> Iterator[Watched]:
    with chromium() as browser:
        yield Watched(browser.new_page())


def load(node: Node) -> None:
    for first in range(0, KEYS, STEP):
        lines = "\n".join(
            f'{{"key":"user:{number:07}:name","value":"{number}"}}'
            for number in range(first, first + STEP)
        )
        headers = {"Content-Type": "application/x-ndjson"}
        answer = node.request("POST", "/kv/import", lines.encode(), headers, timeout_seconds=120)
        assert answer.status == 200, answer.body


def shown_after_ms(page: Page) -> float:
    """Return when the rows were there, from the beginning of the navigation on."""
    found: float = page.evaluate(
        """() => new Promise((resolve) => {
          const look = () => document.querySelector(".rows")
            ? resolve(performance.now()) : requestAnimationFrame(look);
          look();
        })"""
    )
    return found


def test_keys_are_shown_within_a_second_among_a_million(
    start_node: StartNode, watched: Watched
) -> None:
    node, page = start_node(server__max_request_size_mb=64), watched.page
    load(node)
    times = []
    for _ in range(3):
        page.goto("about:blank")
        page.goto(f"http://{HOST}:{node.port}/console#keys", wait_until="commit")
        times.append(shown_after_ms(page))
    page.get_by_role("button", name="user:").click()
    expect(page.locator(".pages")).to_have_text("1,000 folders, 0 keys, and moreNext 1000")
    print(f"first rows of {KEYS:,} keys after {', '.join(f'{each:.0f}' for each in times)} ms")
    assert min(times) < PAINT_MS


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk for the node's data and its run directory, with a short name."""
    with (
        tempfile.TemporaryDirectory(prefix="synap") as folder,
        small_disk(Path(folder) / "disk", DISK_BYTES) as place,
    ):
        monkeypatch.setenv("SYNAP_RUN_DIR", str(place / "run"))
        yield place


def test_full_disk_is_shown_and_its_end_too(watched: Watched, disk: Path) -> None:
    with Node(disk / "node", "node", {}) as node:
        page = watched.page
        page.goto(f"http://{HOST}:{node.port}/console")
        card = page.get_by_label("node", exact=True)
        expect(card).to_contain_text("takes writes")
        ballast = fill_until_refused(node, disk)
        expect(card).to_contain_text("its disk is full")
        ballast.unlink()
        expect(card).to_contain_text("takes writes")
