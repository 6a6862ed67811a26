"""A real Chromium for the tests of pages: Debian's, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
)  # fmt: skip
# Far above what a page takes on an idle machine.
_DEADLINE_MS = 60_000
_AXE = Path(__file__).parent / "vendor" / "axe.min.js"
_GRAVE = ("serious", "critical")


@contextmanager
def chromium(program: str | None = CHROMIUM) -> Iterator[Browser]:
    """Run a browser: Debian's, or a program that starts that."""
    assert program is not None, "these tests need Debian's chromium; .ci/run installs it"
    with sync_playwright() as playwright:
        expect.set_options(timeout=_DEADLINE_MS)
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page with all that it asks for and complains of.

    Attributes:
        page: The page.
        asked: The addresses of its requests.
        complaints: What stands in its console as an error, and what no handler caught.
        dialogs: Messages of windows that a script opened.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        page.set_default_timeout(_DEADLINE_MS)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)
        page.on("dialog", self._dismiss)

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


def grave_findings(page: Page, *rules: str) -> list[str]:
    """Return what axe-core finds of a page's accessibility that is serious or worse.

    Args:
        rules: Those alone; all without.
    """
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_AXE.read_text() + "; null")
    chosen = {"runOnly": list(rules)} if rules else {}
    found = page.evaluate("async chosen => (await axe.run(document, chosen)).violations", chosen)
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for each in found
        if each["impact"] in _GRAVE
        for node in each["nodes"]
    ]
