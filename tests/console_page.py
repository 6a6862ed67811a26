"""What a person does on the console's page, in a browser."""

from __future__ import annotations

from playwright.sync_api import Page, expect

PASSWORD = "correct horse"


def log_in(page: Page) -> None:
    page.get_by_label("User", exact=True).fill("root")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="Rooms")).to_be_visible()


def show(page: Page, room: str) -> None:
    """Go to a room as a person does, which keeps what the page knows."""
    page.evaluate("hash => { location.hash = hash; }", f"#{room}")
    title = room.partition("/")[0].capitalize()
    expect(page.get_by_role("heading", level=1, name=title)).to_be_visible()


def focus_on(page: Page, text: str) -> None:
    """Walk by Tab, and through a list by the arrow, until what has this text has the focus."""
    for _ in range(40):
        found = page.evaluate(
            "[document.activeElement.innerText, !!document.activeElement.closest('.rows')]"
        )
        if found[0] == text:
            return
        page.keyboard.press("ArrowDown" if found[1] else "Tab")
    raise AssertionError(f"no way by the keyboard to {text!r}")
