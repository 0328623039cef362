"""Draw for the README: the demo's terminal view and live page, of one run, and found steps."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
from playwright.sync_api import sync_playwright
from rich.console import Console

from stepstream.settings import HttpSettings, ModelSettings
from stepstream.simulation.demo import DemoResult, Walkers, run_demo
from stepstream.simulation.view import render
from stepstream.simulation.walkers import Walker
from tests.conftest import ROOT
from tests.kafka.broker import free_port

IMAGES = ROOT / "docs" / "images"
WALKERS = Walkers(devices=40, rate_hz=80, seconds=75, seed=1)
WATCHED_S = 60
WIDTH = 1280
HEIGHT = 1533
"""Down to the table of devices."""
DEVICE = "walker-3"
FONT = "DejaVu Sans Mono"


def main() -> None:
    draw_steps()
    draw_demo()


def draw_steps() -> None:
    time_s, axes = Walker(seed=1, rate_hz=80).read(120)
    with TemporaryDirectory() as folder:
        recording = Path(folder, "walker.csv")
        header = "time,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z"
        rows = np.column_stack([time_s, axes])
        np.savetxt(recording, rows, "%.5f", ",", header=header, comments="")
        command = [sys.executable, "-m", "stepstream", "detect", str(recording)]
        command += ["--plot", str(IMAGES / "detect.png")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def draw_demo() -> None:
    results: list[DemoResult] = []
    http = HttpSettings(address="127.0.0.1", port=free_port())
    silent = Console(file=io.StringIO())
    demo = Thread(target=lambda: results.append(run_demo(silent, WALKERS, ModelSettings(), http)))
    demo.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
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
