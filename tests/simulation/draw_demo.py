"""Draw the demo for the README: its terminal view and its live page, of one run."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
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
WIDTH = 1280
DEVICE = "walker-3"
FONT = "DejaVu Sans Mono"


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
        page = browser.new_page(viewport={"width": WIDTH, "height": 1023})
        page.goto(f"http://{http.address}:{http.port}/performance")
        page.get_by_role("combobox", name="Device").fill(DEVICE)
        page.get_by_role("button", name="Watch").click()
        page.wait_for_timeout(WATCHED_S * 1000)
        page.screenshot(path=IMAGES / "performance.png")
        demo.join()
        terminal = Console(
            record=True,
            width=107,
            file=io.StringIO(),
            color_system="truecolor",
            force_terminal=True,
        )
        terminal.print(render(results[0].snapshot))
        # Its letters are placed one by one, for a font of just that width.
        svg = terminal.export_svg(title="stepstream demo").replace("Fira Code", FONT)
        with TemporaryDirectory() as folder:
            file = Path(folder, "demo.svg")
            file.write_text(svg, encoding="utf-8")
            page.goto(file.as_uri())
            box = page.locator("svg").first.get_attribute("viewBox") or ""
            _, _, width, height = map(float, box.split())
            page.set_viewport_size({"width": WIDTH, "height": round(WIDTH * height / width)})
            page.screenshot(path=IMAGES / "demo.png")
        browser.close()


if __name__ == "__main__":
    main()
