"""Draw the dashboard as it looks on a real run: ``make dashboard-picture``.

Consumers, a broker and a Prometheus, all real, run for some minutes: with walkers, a consumer that
was stopped, invalid messages, a second consumer, a backlog. Then every panel is drawn from
Prometheus' answers to its queries.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from deploy.grafana.dashboard import ROWS, Panel, Query
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.conftest import ROOT
from tests.deploy.prometheus import Prometheus
from tests.deploy.queries import filled_in
from tests.kafka.broker import Broker, free_port
from tests.kafka.builders import RunProcess, TopicSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes

PICTURE = ROOT / "docs" / "images" / "dashboard.png"
STEP_S = 2
RATE_INTERVAL = "20s"
DAY_S = 86_400
GROUND, PANE, GRID, TEXT = "#111217", "#181b1f", "#2c3235", "#ccccdc"
GOOD, BAD = "#73bf69", "#f2495c"
LINES = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff9830", "#f2495c", "#5794f2", "#b877d9", "#96d98d"]
Line: TypeAlias = tuple[str, NDArray[Any], NDArray[Any]]


def si(value: float, suffix: str = "") -> str:
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{name}{suffix}"
    return f"{value:.3g}{' ' if suffix else ''}{suffix}"


def duration(value: float) -> str:
    if 0 < abs(value) < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if abs(value) < DAY_S else f"{value / DAY_S:.3g} days"


UNITS: dict[str, Callable[[float], str]] = {
    "short": si,
    "cps": lambda value: f"{si(value)}/s",
    "bytes": lambda value: si(value, "B"),
    "Bps": lambda value: f"{si(value, 'B')}/s",
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "s": duration,
}


class Scene:
    """What the picture shows, as it happens."""

    def __init__(self, topics: TopicSet, folder: Path) -> None:
        self._topics = topics
        self._folder = folder
        self._ports = {"a": free_port(), "b": free_port()}

    @property
    def targets(self) -> list[str]:
        """Addresses of the consumers, also before they run."""
        return [f"127.0.0.1:{port}" for port in self._ports.values()]

    def play(self, scale_s: float) -> float:
        """Play normal operation, a stop, invalid messages, two more workers, and a backlog.

        Returns its end, seconds since the epoch, while both consumers still run.
        """
        walkers = subprocess.Popen(
            [sys.executable, "-m", "stepstream", "simulate", "--devices", "50"],
            env={**os.environ, **self._topics.environment()},
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        try:
            with self._consumer("a") as first:
                time.sleep(2 * scale_s)
                first.terminate()
            time.sleep(scale_s / 2)
            with self._consumer("a"):
                self._send_invalid(scale_s)
                with self._consumer("b", workers=2):
                    time.sleep(scale_s)
                    self._topics.produce(backlog())
                    time.sleep(scale_s)
                    return math.floor(time.time())
        finally:
            walkers.terminate()
            walkers.wait()

    def _consumer(self, name: str, workers: int = 1) -> RunProcess:
        settings = {
            "STEPSTREAM_HTTP__PORT": str(self._ports[name]),
            "STEPSTREAM_WORKERS": str(workers),
        }
        return RunProcess(self._topics, self._folder, name, **settings)

    def _send_invalid(self, seconds: float) -> None:
        invalid = [(b"walker-1", b"{"), (b"walker-2", None), (b"walker-3", b'{"accel_x": 1}')]
        for _ in range(10):
            self._topics.produce(invalid[: 1 + int(time.monotonic()) % 3] * 10)
            time.sleep(seconds / 10)


def backlog() -> Iterator[tuple[bytes, bytes]]:
    """What a hundred more devices measured in the last twenty seconds."""
    fleet = [Device(f"late-{number}", Walker(number, 80.0)) for number in range(100)]
    for message in messages(fleet, time.time() - 20, 20.0):
        yield message.key, message.value


def lines(server: Prometheus, query: Query, begin_s: float, end_s: float) -> Iterator[Line]:
    """Name, times and values of each line of a query."""
    expression = filled_in(query.text, RATE_INTERVAL)
    answer = server.ask("query_range", query=expression, start=begin_s, end=end_s, step=STEP_S)
    for series in answer["result"]:
        name = query.legend
        for label, value in series["metric"].items():
            name = name.replace(f"{{{{{label}}}}}", value)
        values = {float(at): float(value) for at, value in series["values"]}
        times = np.arange(begin_s, end_s, STEP_S)
        yield name, times, np.array([values.get(at, math.nan) for at in times])


def draw(server: Prometheus, begin_s: float, end_s: float) -> None:
    """All panels, as on the dashboard."""
    rows = [(title, line) for title, row in ROWS.items() for line in row]
    heights = [0.6 if line[0].kind == "figure" else 1.0 for _, line in rows]
    plt.style.use("dark_background")
    figure = plt.figure(figsize=(22, 2.9 * sum(heights)), facecolor=GROUND, layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights, hspace=0.02)[:, 0]
    shown = ""
    for (title, panels), part in zip(rows, parts, strict=True):
        part.set_facecolor(GROUND)
        if title != shown:
            part.suptitle(title, x=0.005, ha="left", color=TEXT, fontsize=15, weight="bold")
            shown = title
        for panel, axes in zip(panels, np.atleast_1d(part.subplots(1, len(panels))), strict=True):
            axes.set_facecolor(PANE)
            axes.spines[:].set_color(GRID)
            axes.set_title(panel.title, loc="left", color=TEXT, fontsize=11)
            found = [
                line for query in panel.queries for line in lines(server, query, begin_s, end_s)
            ]
            assert found, f"{panel.title} is empty"
            write_figure(axes, panel, found) if panel.kind == "figure" else plot(axes, panel, found)
    figure.savefig(PICTURE, dpi=75, facecolor=GROUND)


def write_figure(axes: Axes, panel: Panel, found: list[Line]) -> None:
    """The last value, in the colour of its threshold."""
    values = found[0][2]
    last = float(values[np.isfinite(values)][-1])
    is_good = (
        last < panel.bad_from if panel.bad_from is not None else last >= (panel.good_from or 0)
    )
    text = UNITS[panel.unit](last)
    colour = GOOD if is_good else BAD
    axes.text(
        0.5,
        0.5,
        text,
        color=colour,
        fontsize=26,
        ha="center",
        va="center",
        transform=axes.transAxes,
    )
    axes.set(xticks=[], yticks=[])


def plot(axes: Axes, panel: Panel, found: list[Line]) -> None:
    """Lines, or areas on top of each other."""
    axes.set_prop_cycle(color=LINES)
    times = found[0][1] - found[0][1][0]
    if panel.kind == "stacked":
        heights = [np.nan_to_num(values) for _, _, values in found]
        axes.stackplot(times, heights, labels=[name for name, *_ in found], alpha=0.5)
    else:
        for name, _, values in found:
            axes.plot(times, values, label=name, linewidth=1.3)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: UNITS[panel.unit](value)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{s // 60:.0f}:{s % 60:02.0f}"))
    axes.xaxis.set_major_locator(MultipleLocator(30))
    axes.tick_params(colors=TEXT, labelsize=8)
    axes.grid(color=GRID, linewidth=0.6)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.14),
        ncols=4,
        fontsize=8,
        frameon=False,
        labelcolor=TEXT,
        handlelength=1,
        borderaxespad=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale-s", type=float, default=30.0, help="length of a part, seconds")
    scale_s = parser.parse_args().scale_s
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder / "broker")
        broker.start()
        try:
            scene = Scene(TopicSet.create(broker.bootstrap), folder)
            with Prometheus(folder, scene.targets, "2s") as server:
                begin_s = math.floor(time.time())
                draw(server, begin_s, scene.play(scale_s))
        finally:
            broker.kill()


if __name__ == "__main__":
    main()
