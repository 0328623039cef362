"""Whether minutes, walks and counts that were published are what the published steps give."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.outputs.oracle import MINUTE_US, WALK_GAP_US, Step, minutes_of, walks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Value = Mapping[str, Any]

__all__ = ["Published"]


class Published:
    """Values that were published, in the order of their offsets.

    Parameters
    ----------
    events
        Events.
    outputs
        Values of ``minutes``, ``walks`` and ``counts``.
    walk_gap_us
        The longest time without a step in a walk.
    """

    def __init__(
        self,
        events: Iterable[Value],
        outputs: Mapping[str, Iterable[Value]],
        walk_gap_us: int = WALK_GAP_US,
    ) -> None:
        self._walk_gap_us = walk_gap_us
        self._events = _by_device(events)
        self._minutes = _by_device(outputs["minutes"])
        self._walks = _by_device(outputs["walks"])
        self._counts = _by_device(outputs["counts"])

    def faults(self) -> list[str]:
        """What doesn't follow from the events, a sentence each.

        The last minute and the last walk of a device may not be final yet.
        """
        wrong = []
        for device in sorted(
            self._events.keys() | self._minutes.keys() | self._walks.keys() | self._counts.keys()
        ):
            steps = [Step.of(event) for event in self._events.get(device, [])]
            for kind, found, expected in (
                ("minutes", self._minutes, [_minute(*one) for one in minutes_of(steps)]),
                ("walks", self._walks, [_walk(*one) for one in walks_of(steps, self._walk_gap_us)]),
            ):
                what = _compare(expected, [_bare(value) for value in found.get(device, [])])
                wrong += [f"{kind} of {device}: {what}"] if what else []
            what = self._compare_counts(device)
            wrong += [f"counts of {device}: {what}"] if what else []
        return wrong

    def _compare_counts(self, device: str) -> str:
        counts = [(c["step_count"], c["last_step_at"]) for c in self._counts.get(device, [])]
        steps = [(e["step_count"], e["ended_at"]) for e in self._events.get(device, [])]
        if counts[-1:] != steps[-1:]:
            return f"the last is {counts[-1:]}, the last event has {steps[-1:]}"
        if not set(counts) <= set(steps) or counts != sorted(set(counts)):
            return "some belong to no event, or are out of order or repeated"
        return ""


def _by_device(values: Iterable[Value]) -> dict[str, list[Value]]:
    grouped: dict[str, list[Value]] = {}
    for value in values:
        grouped.setdefault(value["device_id"], []).append(value)
    return grouped


def _minute(name: str, number: int, steps: int, walking_us: int) -> dict[str, Any]:
    walking_us = min(walking_us, MINUTE_US)
    return {
        "minute_id": name,
        "minute": f"{np.datetime64(number, 'm')}:00Z",
        "steps": steps,
        "cadence": round(steps * 6e7 / walking_us, 1),
        "walking_s": round(walking_us / 1e6, 3),
    }


def _walk(name: str, start_us: int, end_us: int, steps: int, walking_us: int) -> dict[str, Any]:
    return {
        "walk_id": name,
        "started_at": start_us / 1e6,
        "ended_at": end_us / 1e6,
        "steps": steps,
        "cadence": round(steps * 6e7 / walking_us, 1),
    }


def _bare(value: Value) -> dict[str, Any]:
    return {name: value[name] for name in value if name not in {"device_id", "model"}}


def _name(value: Value) -> str:
    return str(value["minute_id"] if "minute_id" in value else value["walk_id"])


def _compare(expected: Sequence[Value], found: Sequence[Value]) -> str:
    for before, after in pairwise(found):
        if _name(before) == _name(after) and after["steps"] <= before["steps"]:
            return f"{_name(after)} was repeated without a further step"
    final = [
        value
        for number, value in enumerate(found)
        if number + 1 == len(found) or _name(found[number + 1]) != _name(value)
    ]
    if len(final) == len(expected) > 0 and final[-1] != expected[-1]:
        # It was published, and steps have come since.
        last, whole = final[-1], expected[-1]
        is_older = _name(last) == _name(whole) and last["steps"] < whole["steps"]
        final = final[:-1] if is_older else final
    if final in (expected, expected[:-1]):
        return ""
    missing = [value for value in expected[:-1] if value not in final]
    extra = [value for value in final if value not in expected]
    return (
        f"{len(expected)} are expected, {len(final)} published; missing {missing[:2]}, "
        f"wrong {extra[:2]}"
    )
