"""Draw the demo for the README: its terminal view and its live page, of one run."""

from __future__ import annotations

import io
import shutil
from threading import Thread

from playwright.sync_api import sync_playwright
from rich.console import Console

from stepstream.settings import HttpSettings, ModelSettings
from stepstream.simulation.demo import DemoResult, Walkers, run_demo
from stepstream.simulation.view import render
from tests.conftest import ROOT
from tests.kafka.broker import free_port

IMAGES = ROOT / "docs" / "images"
WALKERS = Walkers(devices=40, rate_hz=80, seconds=75, seed=1)
WATCHED_S = 60
DEVICE = "walker-3"


def main() -> None:
    results: list[DemoResult] = []
    http = HttpSettings(address="127.0.0.1", port=free_port())
    silent = Console(file=io.StringIO())
    demo = Thread(target=lambda: results.append(run_demo(silent, WALKERS, ModelSettings(), http)))
    demo.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1023})
        page.goto(f"http://{http.address}:{http.port}/performance")
        page.get_by_role("combobox", name="Device").fill(DEVICE)
        page.get_by_role("button", name="Watch").click()
        page.wait_for_timeout(WATCHED_S * 1000)
        page.screenshot(path=IMAGES / "performance.png")
        demo.join()
        terminal = Console(record=True, width=107, file=io.StringIO())
        terminal.print(render(results[0].snapshot))
        page.set_content(terminal.export_svg(title="stepstream demo"))
        page.locator("svg").first.screenshot(path=IMAGES / "demo.png")
        browser.close()


if __name__ == "__main__":
    main()
