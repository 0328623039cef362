"""Minutes and walks that follow from the events of a device, computed in the plainest way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MINUTE_US = 60_000_000
WALK_GAP_US = 10_000_000
LONGEST_PAUSE_US = 2_000_000


@dataclass(frozen=True)
class Step:
    """A step; times in microseconds since the epoch."""

    name: str
    start_us: int
    end_us: int

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Step:
        return cls(
            event["event_id"], round(event["started_at"] * 1e6), round(event["ended_at"] * 1e6)
        )


def minutes_of(steps: Sequence[Step]) -> list[tuple[str, int, int, int]]:
    """Name, minutes since the epoch, steps and walking time of each; times in microseconds."""

    def is_same(before: Step, step: Step) -> bool:
        return before.end_us // MINUTE_US == step.end_us // MINUTE_US

    return [
        (part[0].name, part[0].end_us // MINUTE_US, len(part), walking_us)
        for part, walking_us in _groups(steps, is_same)
    ]


def walks_of(steps: Sequence[Step], gap_us: int) -> list[tuple[str, int, int, int, int]]:
    """Name, start, end, steps and walking time of each walk; times in microseconds."""

    def goes_on(before: Step, step: Step) -> bool:
        return step.end_us > before.end_us and step.start_us <= before.end_us + gap_us

    return [
        (part[0].name, part[0].start_us, part[-1].end_us, len(part), walking_us)
        for part, walking_us in _groups(steps, goes_on)
    ]


def _groups(
    steps: Sequence[Step], belongs: Callable[[Step, Step], bool]
) -> list[tuple[list[Step], int]]:
    """Steps that belong together, and their walking time."""
    groups: list[tuple[list[Step], int]] = []
    for number, step in enumerate(steps):
        before = steps[number - 1] if number else None
        walking_us = step.end_us - step.start_us
        if before is not None and 0 < step.end_us - before.end_us <= LONGEST_PAUSE_US:
            walking_us = step.end_us - before.end_us
        if before is not None and belongs(before, step):
            part, total_us = groups[-1]
            groups[-1] = [*part, step], total_us + walking_us
        else:
            groups.append(([step], walking_us))
    return groups
