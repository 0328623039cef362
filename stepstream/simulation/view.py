"""The demo's terminal view."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

__all__ = ["DeviceRow", "Snapshot", "render", "render_line"]

BARS = " ▁▂▃▄▅▆▇█"
GRAVITY = 9.81


@dataclass(frozen=True)
class DeviceRow:
    """One device as it is drawn: its last accelerations in m/s^2, its true and found steps."""

    name: str
    signal: list[float]
    true_steps: int
    found_steps: int


@dataclass(frozen=True)
class Snapshot:
    """Everything that the view shows at one moment."""

    elapsed_s: float
    seconds: float | None
    model: str
    devices: int
    readings: int
    readings_per_s: float
    messages: int
    events: int
    dead_letters: int
    true_steps: int
    found_steps: int
    delay_p50_s: float | None
    delay_p99_s: float | None
    rows: list[DeviceRow] = field(default_factory=list)


def render(shot: Snapshot) -> RenderableType:
    """The view as a rich renderable."""
    of = f" of {shot.seconds:.0f}" if shot.seconds else ""
    title = Text.assemble(
        ("stepstream", "bold cyan"),
        ("  readings → Kafka → windows → ", "dim"),
        (shot.model, "magenta"),
        (" → step events", "dim"),
    )
    figures = Table.grid(expand=True, padding=(0, 1))
    for _ in range(5):
        figures.add_column(justify="center", ratio=1)
    delay = "-" if shot.delay_p50_s is None else f"{shot.delay_p50_s:.2f} s"
    # Always a line, so that the frame keeps its height.
    delay_99 = " " if shot.delay_p99_s is None else f"99 %: {shot.delay_p99_s:.2f} s"
    figures.add_row(
        *(
            Text.assemble((value, "bold"), "\n", (label, "dim"), justify="center")
            for value, label in (
                (f"{shot.devices}", "devices"),
                (f"{shot.readings_per_s:,.0f}", "readings/s"),
                (f"{shot.events:,}", "events"),
                (delay, f"toe strike → event\n{delay_99}"),
                (f"{shot.elapsed_s:.0f}{of}", "seconds"),
            )
        )
    )
    return Panel(
        Group(figures, Text(), _balance(shot), Text(), _devices(shot.rows)),
        title=title,
        box=box.ROUNDED,
        border_style="cyan",
        padding=(1, 2),
    )


def _balance(shot: Snapshot) -> RenderableType:
    """True and found steps as two bars."""
    width = 44
    most = max(shot.true_steps, shot.found_steps, 1)
    grid = Table.grid(padding=(0, 1))
    for label, count, style in (
        ("true steps", shot.true_steps, "green"),
        ("detected", shot.found_steps, "cyan"),
    ):
        grid.add_row(
            Text(label, style="dim"),
            Text("█" * round(width * count / most), style=style),
            Text(f"{count:,}", style=f"bold {style}"),
        )
    return grid


def _devices(rows: list[DeviceRow]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, header_style="dim")
    table.add_column("device", no_wrap=True)
    table.add_column("acceleration, last seconds", ratio=1, no_wrap=True)
    table.add_column("true", justify="right")
    table.add_column("detected", justify="right")
    for row in rows:
        table.add_row(
            row.name,
            Text(sparkline(row.signal), style="blue"),
            Text(str(row.true_steps), style="green"),
            Text(str(row.found_steps), style="bold cyan"),
        )
    return table


def sparkline(values: list[float]) -> str:
    """Deviation from gravity as a row of bars."""
    top = len(BARS) - 1
    return "".join(
        BARS[max(0, min(top, round(top / 2 + (value - GRAVITY) * 0.75)))] for value in values
    )


def render_line(shot: Snapshot) -> str:
    """The view in one line, where there is no terminal."""
    delay = "" if shot.delay_p50_s is None else f", {shot.delay_p50_s:.2f} s from strike to event"
    return (
        f"{shot.elapsed_s:5.1f} s  {shot.devices} devices  {shot.readings_per_s:,.0f} readings/s  "
        f"steps: {shot.true_steps:,} true, {shot.found_steps:,} detected{delay}"
    )
