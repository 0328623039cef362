"""Pictures of detected steps (extra ``plot``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.errors import StepstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from stepstream.detection import ModelMetadata, Steps
    from stepstream.recordings import Recording

__all__ = ["plot_steps"]

ZOOMS = 3
ZOOM_S = 8.0
INK, FAINT = "#1d2733", "#8a97a6"
ACCEL, GYRO, START, END = "#2b6cb0", "#b7791f", "#2f855a", "#c53030"


def plot_steps(  # noqa: PLR0913 - what a picture shows
    path: Path,
    recording: Recording,
    steps: Steps,
    probability_s: NDArray[np.float64],
    probabilities: NDArray[np.float32],
    metadata: ModelMetadata,
    *,
    around_s: Sequence[float] = (),
) -> None:
    """Draw a recording's cadence, and up to three enlarged parts of signal and steps.

    Parameters
    ----------
    path
        Picture to write; its suffix gives the format.
    recording
        The signal.
    steps
        What was found in it.
    probability_s : (n,) float64
        Times at which the model gave probabilities, seconds.
    probabilities : (n, 2) float32
        Start and end probability there.
    metadata
        The model's thresholds.
    around_s
        Middles of the parts to enlarge, seconds; if none, they are spread over the recording.

    Raises
    ------
    StepstreamError
        Matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError:
        raise StepstreamError(
            "drawing needs matplotlib; install it with: pip install 'stepstream[plot]'"
        ) from None
    zooms = [(s - ZOOM_S / 2, s + ZOOM_S / 2) for s in around_s] or _choose_zooms(recording, steps)
    figure = Figure(figsize=(13, 2.6 + 3.0 * len(zooms)), layout="constrained")
    heights = [1.6, *([1.7, 0.8] * len(zooms))]
    axes = figure.subplots(len(heights), 1, height_ratios=heights)
    count = len(steps)
    length_s = float(np.ptp(recording.time_s))
    figure.suptitle(
        f"{recording.device_id}: {count} steps in {length_s:.0f} s   ({metadata.label})",
        color=INK,
        fontsize=14,
        fontweight="bold",
    )
    _draw_overview(axes[0], recording, steps, zooms)
    for number, (begin_s, end_s) in enumerate(zooms):
        signal, model = axes[1 + 2 * number], axes[2 + 2 * number]
        _draw_signal(signal, recording, steps, begin_s, end_s, legend=number == 0)
        _draw_probabilities(
            model, probability_s, probabilities, metadata, begin_s, end_s, legend=number == 0
        )
    axes[-1].set_xlabel("time (s)", color=INK)
    figure.savefig(path, dpi=110)


def _choose_zooms(recording: Recording, steps: Steps) -> list[tuple[float, float]]:
    """Parts to enlarge: spread over the recording, and with steps if there are any."""
    first, last = float(recording.time_s.min()), float(recording.time_s.max())
    if last - first <= ZOOM_S * 1.5:
        return [(first, last)]
    anchors = steps.end_us / 1e6 if len(steps) else np.array([first, last])
    zooms: list[tuple[float, float]] = []
    for share in np.linspace(0.05, 0.85, ZOOMS):
        begin = float(anchors[int(share * (len(anchors) - 1))]) - 1.5
        begin = min(max(begin, first), last - ZOOM_S)
        if not zooms or begin >= zooms[-1][1]:
            zooms.append((begin, begin + ZOOM_S))
    return zooms


def _tidy(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, color=INK, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT, labelsize=8)
    axes.grid(axis="y", color="#e3e8ee", linewidth=0.6)
    axes.margins(x=0)


def _caption(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9, color=FAINT, loc="left")


def _draw_overview(
    axes: Axes, recording: Recording, steps: Steps, zooms: list[tuple[float, float]]
) -> None:
    _tidy(axes, "steps a minute")
    ends_s = steps.end_us / 1e6
    for begin_s, end_s in zooms:
        axes.axvspan(begin_s, end_s, color="#edf2f7", zorder=0)
    if len(ends_s) > 1:
        interval_s = np.diff(ends_s)
        walking = interval_s < 2
        axes.plot(
            ends_s[1:][walking], 60 / interval_s[walking], ".", color=ACCEL, markersize=3, alpha=0.7
        )
    axes.set_ylim(0, 220)
    axes.set_xlim(float(recording.time_s.min()), float(recording.time_s.max()))
    total = axes.twinx()
    total.step(ends_s, np.arange(1, len(ends_s) + 1), where="post", color=INK, linewidth=1.4)
    total.set_ylabel("steps so far", color=INK, fontsize=9)
    total.spines[["top"]].set_visible(False)
    total.tick_params(colors=FAINT, labelsize=8)
    total.set_ylim(bottom=0)
    _caption(axes, "cadence (dots), count (line); shaded: shown below")


def _draw_signal(
    axes: Axes, recording: Recording, steps: Steps, begin_s: float, end_s: float, *, legend: bool
) -> None:
    _tidy(axes, "|accel| (m/s²)")
    within = (recording.time_s >= begin_s) & (recording.time_s <= end_s)
    accel_rows, gyro_rows = within & recording.has_accel, within & recording.has_gyro
    accel, gyro = recording.axes[accel_rows, :3], recording.axes[gyro_rows, 3:]
    axes.plot(
        recording.time_s[accel_rows],
        np.linalg.norm(accel, axis=1),
        color=ACCEL,
        linewidth=1.3,
        label="acceleration",
    )
    if gyro.any():
        turning = axes.twinx()
        turning.plot(
            recording.time_s[gyro_rows],
            np.linalg.norm(gyro, axis=1),
            color=GYRO,
            linewidth=0.9,
            alpha=0.7,
        )
        turning.set_ylabel("|gyro| (rad/s)", color=GYRO, fontsize=9)
        turning.spines[["top"]].set_visible(False)
        turning.tick_params(colors=FAINT, labelsize=8)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.28 * (high - low), high)
    inside = np.flatnonzero((steps.end_us / 1e6 >= begin_s) & (steps.start_us / 1e6 <= end_s))
    for step in inside:
        begin, end = steps.start_us[step] / 1e6, steps.end_us[step] / 1e6
        level = low - (0.10 + 0.11 * (step % 2)) * (high - low)
        axes.plot(
            [begin, end],
            [level, level],
            color=INK,
            linewidth=3.5,
            alpha=0.75,
            solid_capstyle="butt",
        )
        axes.axvline(end, color=END, linewidth=0.7, alpha=0.55)
        axes.plot(begin, level, ">", color=START, markersize=5)
        axes.plot(end, level, "|", color=END, markersize=9, markeredgewidth=2)
    axes.set_xlim(begin_s, end_s)
    axes.tick_params(labelbottom=False)
    if legend:
        _caption(axes, "bars: steps, from heel lift (green) to toe strike (red)")


def _draw_probabilities(  # noqa: PLR0913
    axes: Axes,
    time_s: NDArray[np.float64],
    probabilities: NDArray[np.float32],
    metadata: ModelMetadata,
    begin_s: float,
    end_s: float,
    *,
    legend: bool,
) -> None:
    _tidy(axes, "probability")
    rows = (time_s >= begin_s) & (time_s <= end_s)
    for column, name, colour, thresholds in (
        (0, "start", START, {metadata.start_threshold}),
        (1, "end", END, {metadata.end_threshold, metadata.least_end}),
    ):
        axes.fill_between(time_s[rows], probabilities[rows, column], color=colour, alpha=0.25)
        axes.plot(time_s[rows], probabilities[rows, column], color=colour, linewidth=1, label=name)
        for threshold in thresholds:
            axes.axhline(threshold, color=colour, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1)
    axes.set_xlim(begin_s, end_s)
    if legend:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.93), fontsize=8, frameon=False, ncols=2)
