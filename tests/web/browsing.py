"""What tests of the page in a browser share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from stepstream.web.server import Server

SHOTS = os.environ.get("TEST_SCREENSHOTS")
"""Folder for pictures of the page, to be looked at."""
DEADLINE_MS = 20_000
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
SEE = """
(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


def address(server: Server, anchor: str = "") -> str:
    return f"http://127.0.0.1:{server.port}/performance{anchor}"


def await_ready(page: Page) -> None:
    expect(page.locator("#health")).to_have_text("ready", timeout=DEADLINE_MS)


def hide(page: Page) -> None:
    """Let a page think that nobody sees it; a browser without a screen shows all its pages."""
    page.evaluate(SEE, arg=True)


def unhide(page: Page) -> None:
    page.evaluate(SEE, arg=False)


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
