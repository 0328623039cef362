"""How late events are, fault by fault: figures, a table and a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.faults import FAULTS
from benchmarks.recovery import append_times
from benchmarks.report import COLOURS, FAINT, INK, save, table, tidy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

    from tests.kafka.builders import TopicSet

__all__ = ["Lateness", "Mark", "Window", "by_fault", "compare", "draw", "measure", "summary"]

LATE_S = 1.0
"""Later than this is late."""
CURVE_S = 0.25
KINDS = (*FAULTS, "leave")
"""Rows of the table."""
ROW_INCHES = 2.2
"""Height of a run in the picture."""


class Mark(NamedTuple):
    """When a fault began, in seconds, and what it was."""

    at_s: float
    kind: str
    what: str


@dataclass(frozen=True)
class Lateness:
    """Of each event of a run.

    Attributes
    ----------
    device : (n,) str
        Whose step it is.
    due_s, came_s : (n,) float64
        Broker time of the message that completed the step, and of its event; seconds.
    """

    device: NDArray[np.str_]
    due_s: NDArray[np.float64]
    came_s: NDArray[np.float64]

    @property
    def late_s(self) -> NDArray[np.float64]:
        """The lateness: (n,) float64, seconds."""
        return self.came_s - self.due_s

    def of(self, rows: NDArray[np.bool_]) -> Self:
        """Some of the events."""
        return type(self)(self.device[rows], self.due_s[rows], self.came_s[rows])

    def curve(self) -> list[tuple[float, float]]:
        """Time, and the largest lateness of what was due in each `CURVE_S`."""
        bins = np.floor(self.due_s / CURVE_S)
        late_s = self.late_s
        return [
            (round(float(b) * CURVE_S, 2), round(float(late_s[bins == b].max()), 3))
            for b in np.unique(bins)
        ]


def measure(topics: TopicSet, begin_s: float) -> tuple[Lateness, list[dict[str, Any]]]:
    """The lateness of all events that were published, and the events.

    Parameters
    ----------
    topics
        Where they are; both topics have the time at which the broker appended a record.
    begin_s
        Seconds since the epoch that count as 0.
    """
    records = topics.read(topics.events)
    events = [json.loads(record.value() or b"") for record in records]
    places = []
    for event in events:
        _, partition, offset, _ = event["event_id"].rsplit("-", 3)
        places.append((int(partition), int(offset)))
    appended_ms = append_times(topics, set(places))
    strange = set(places) - appended_ms.keys()
    if strange:
        raise RuntimeError(f"events name readings that don't exist: {sorted(strange)[:5]}")
    due_ms = np.array([appended_ms[place] for place in places])
    came_ms = np.array([record.timestamp()[1] for record in records], np.float64)
    device = np.array([event["device_id"] for event in events], np.str_)
    return Lateness(device, due_ms / 1000 - begin_s, came_ms / 1000 - begin_s), events


@dataclass(frozen=True)
class Window:
    """The time from a fault to the next one.

    Attributes
    ----------
    kind, what
        The fault, and to whom it happened.
    at_s
        When it began.
    longest_s, p50_s
        Lateness of the events that were due then: of the worst device, and the median.
    worst_device
        The device of the longest.
    late_devices
        How many devices had an event later than `LATE_S`.
    is_behind
        Whether events of the time before were late when it began: it shows both faults then.
    """

    kind: str
    what: str
    at_s: float
    longest_s: float
    p50_s: float
    worst_device: str
    late_devices: int
    is_behind: bool


def by_fault(seen: Lateness, marks: Sequence[Mark]) -> list[Window]:
    """Judge each fault by the events that were due until the next one.

    What had been waiting for no more than `LATE_S` when a fault began is counted with it: it
    would have come in time without the fault. The last mark is the end of the last fault's time.
    """
    at_s = np.array([mark.at_s for mark in marks])
    own = np.searchsorted(at_s, seen.due_s, "right") - 1
    following = np.append(at_s, np.inf)[own + 1]
    own[(seen.came_s > following) & (seen.due_s > following - LATE_S)] += 1
    found = []
    for n, mark in enumerate(marks[:-1]):
        events = seen.of(own == n)
        waiting = (seen.due_s <= mark.at_s - LATE_S) & (seen.came_s > mark.at_s)
        late_s = events.late_s
        if not len(late_s):
            # Nobody walked, or nothing was published at all, which is found elsewhere.
            found.append(
                Window(*mark[1:], round(mark.at_s, 2), 0.0, 0.0, "", 0, bool(waiting.any()))
            )
            continue
        worst = int(late_s.argmax())
        found.append(
            Window(
                mark.kind,
                mark.what,
                round(mark.at_s, 2),
                round(float(late_s[worst]), 3),
                round(float(np.median(late_s)), 3),
                str(events.device[worst]),
                len(np.unique(events.device[late_s > LATE_S])),
                bool(waiting.any()),
            )
        )
    return found


def summary(runs: Sequence[Lateness]) -> dict[str, float]:
    """All events of some runs together."""
    late_s = np.concatenate([run.late_s for run in runs])
    if not len(late_s):
        return {"events": 0, "late_share": 0.0, "p50_s": 0.0, "p99_s": 0.0, "max_s": 0.0}
    p50, p99, largest = np.percentile(late_s, (50, 99, 100)).tolist()
    return {
        "events": len(late_s),
        "late_share": round(float((late_s > LATE_S).mean()), 4),
        "p50_s": round(p50, 3),
        "p99_s": round(p99, 3),
        "max_s": round(largest, 3),
    }


def compare(found: Mapping[str, tuple[Sequence[Window], Mapping[str, float]]]) -> str:
    """A table in Markdown: faults down, variants across.

    Parameters
    ----------
    found
        Of each variant: the faults of all its runs, and the summary.
    """
    kinds = [k for k in KINDS if any(w.kind == k for windows, _ in found.values() for w in windows)]
    rows = [
        (kind, *(_cell([w for w in windows if w.kind == kind]) for windows, _ in found.values()))
        for kind in kinds
    ]
    totals = [total for _, total in found.values()]
    rows += [
        ("whole run: later than 1 s", *(f"{total['late_share']:.1%}" for total in totals)),
        ("p99", *(_seconds(total["p99_s"]) for total in totals)),
        ("max", *(_seconds(total["max_s"]) for total in totals)),
        ("events", *(f"{total['events']:,}" for total in totals)),
    ]
    return table(("longest lateness (median), late devices", *found), rows)


def _cell(windows: Sequence[Window]) -> str:
    """One kind of fault: those that began in peace, if there are any."""
    if not windows:
        return ""
    chosen = [w for w in windows if not w.is_behind]
    behind = "" if chosen else ", behind the others"
    chosen = chosen or list(windows)
    longest = sorted(w.longest_s for w in chosen)
    low, high = _seconds(longest[0]), _seconds(longest[-1])
    span = high if low == high else f"{low} to {high}"
    devices = max(w.late_devices for w in chosen)
    return f"{span} ({_seconds(float(np.median([w.p50_s for w in chosen])))}), {devices}{behind}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def draw(runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the lateness of some runs over time, one above the other, with their faults.

    Parameters
    ----------
    runs
        By the name to show: what was saved of a run.
    path
        The picture.
    """
    drawn = Figure(figsize=(11, ROW_INCHES * len(runs) + 0.7), layout="constrained")
    rows = drawn.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for number, (axes, (name, run)) in enumerate(zip(rows, runs.items(), strict=True)):
        time_s, late_s = zip(*run["curve"], strict=True)
        axes.semilogy(time_s, late_s, ".", ms=2.5, color=COLOURS[number % len(COLOURS)])
        axes.axhline(LATE_S, color=FAINT, linewidth=0.6, linestyle="--")
        for fault in run["faults"]:
            axes.axvline(fault["at_s"], color=INK, linewidth=0.6)
            axes.annotate(
                fault["kind"],
                (fault["at_s"], 1),
                xycoords=("data", "axes fraction"),
                xytext=(2, -7),
                textcoords="offset points",
                fontsize=6.5,
                color=INK,
            )
        axes.set_title(name, fontsize=9, color=INK, loc="left")
        tidy(axes, "lateness, s")
    rows[-1].set_xlabel("seconds", color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(drawn, str(path.resolve()))
