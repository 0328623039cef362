from __future__ import annotations

import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from stepstream.cli import main
from stepstream.settings import HttpSettings, ModelSettings
from stepstream.simulation import demo
from stepstream.simulation.demo import DemoResult
from stepstream.simulation.view import DeviceRow, Snapshot, render, render_line, sparkline
from stepstream.simulation.walkers import Walker
from tests.kafka.broker import free_port
from tests.kafka.builders import fetch, wait_until

if TYPE_CHECKING:
    from pathlib import Path

SHOT = Snapshot(
    elapsed_s=12.3,
    seconds=30,
    model="hand-1.0",
    devices=20,
    readings=19_200,
    readings_per_s=1_600.4,
    messages=19_200,
    events=1_234,
    dead_letters=0,
    true_steps=1_250,
    found_steps=1_234,
    delay_p50_s=0.47,
    delay_p99_s=0.55,
    rows=[DeviceRow("walker-1", [9.81, 14.0, 5.0], 61, 60)],
)


@pytest.mark.slow
def test_the_whole_product_runs_in_one_process_and_counts_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stepstream", "demo", "--seconds", "16", "--devices", "10"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, summary = done.stdout.strip().splitlines()
    assert "live page: http://127.0.0.1:" in done.stdout
    assert summary.startswith("12,800 readings of 10 devices in 12,800 messages: ")
    assert "true ones" in summary


@pytest.mark.parametrize(("found", "expected"), [(100, 0), (91, 0), (109, 0), (89, 1), (111, 1)])
def test_a_demo_whose_steps_stray_by_over_a_tenth_has_failed(
    found: int, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "run_demo", lambda *_: DemoResult(100, found, SHOT))
    assert main(["demo"]) == expected
    assert f"{found} steps detected" in capsys.readouterr().out


def test_the_view_shows_its_figures() -> None:
    console = Console(width=110, record=True, file=StringIO())
    console.print(render(SHOT))
    text = console.export_text()
    for figure in (
        "1,600",
        "1,234",
        "1,250",
        "0.47 s",
        "0.55 s",
        "12 of 30",
        "walker-1",
        "hand-1.0",
    ):
        assert figure in text
    assert "1,250 true, 1,234 detected" in render_line(SHOT)


def test_a_sparkline_rises_with_acceleration() -> None:
    assert sparkline([0.0, 9.81, 30.0]) == " ▄█"


@pytest.mark.slow
def test_a_demo_has_walks_the_open_minute_and_steps_that_tail_shows() -> None:
    walker = Walker(1_000_003 + 18, 80.0, "armband")
    http = HttpSettings(address="127.0.0.1", port=free_port())
    walkers = demo.Walkers(devices=20, rate_hz=80.0, seconds=16.0, seed=1)
    printed = StringIO()
    console = Console(file=printed)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(demo.run_demo, console, walkers, ModelSettings(), http)

        def answered(path: str) -> Any:
            if running.done():
                running.result()
                pytest.fail("it ended before")
            with suppress(OSError):
                status, body = fetch(http.port, path)
                return json.loads(body) if status == 200 else None
            return None

        opened = wait_until("a device", lambda: answered("/v1/devices/walker-19"))
        wait_until("a step", lambda: (answered("/v1/devices/walker-19") or opened)["open_minute"])
        _, _, command = printed.getvalue().splitlines()[1].partition("steps, in another terminal: ")
        tail = [*shlex.split(command), "--from", "beginning", "--max", "1", "--json"]
        step = json.loads(subprocess.check_output(tail, text=True, timeout=30))
        assert step["value"]["device_id"].startswith("walker-")
        path = "/v1/activity/walker-19"
        walks = wait_until("a walk", lambda: (answered(path) or {}).get("walks"))
        running.result()
    # It walks for 8 s, and stands for 12 s then.
    true_steps = len(walker.steps_until(9.0))
    (walk,) = walks
    assert abs(walk["steps"] - true_steps) <= 2
