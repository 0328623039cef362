"""What must be published while some consumers of a group have another model."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.kafka.played import Step

NEAR_US = 250_000
"""The refractory time: a step of both models ends within it, and only one of the two counts."""


class TwoModels:
    """Compares the steps of a device with those that each of two models finds.

    Parameters
    ----------
    counted
        What `detect` finds with each model, in the form of `by_device`.
    every
        The same with the steps that another one precedes by less than the refractory time: if
        that one fell to the other model, they may count.
    """

    def __init__(
        self,
        counted: Sequence[Mapping[str, Sequence[Step]]],
        every: Sequence[Mapping[str, Sequence[Step]]],
    ) -> None:
        self._counted, self._every = counted, every
        self.switches = 0
        """Events whose model isn't that of the device's event before."""
        self.missing = 0
        """Steps of both models that were not published."""

    def faults(self, device: str, found: Sequence[Step]) -> list[str]:
        """What is wrong with a device's events, a sentence each.

        Each event is a step of its model, counted once and in order. A step that both models
        find is published, but for one near a moment at which the device's model changes.
        """
        known = {step[1:] for steps in self._every for step in steps.get(device, [])}
        wrong = [f"{device}: no model finds {step}" for step in found if step[1:] not in known]
        if [step[0] for step in found] != list(range(1, len(found) + 1)):
            wrong.append(f"{device}: counts are {[step[0] for step in found]}")
        ends = [step[2] for step in found]
        if any(after - before < NEAR_US for before, after in pairwise(ends)):
            wrong.append(f"{device}: two steps end within the refractory time")
        first, second = (steps.get(device, []) for steps in self._counted)
        common = [step[2] for step in first if _is_near(step[2], [other[2] for other in second])]
        missing = sum(not _is_near(end, ends) for end in common)
        switches = sum(before[-1] != after[-1] for before, after in pairwise(found))
        self.switches += switches
        self.missing += missing
        if missing > switches + 1:
            wrong.append(f"{device}: {missing} steps of both are missing, with {switches} changes")
        return wrong


def _is_near(end_us: int, others_us: Sequence[int]) -> bool:
    return any(abs(end_us - other_us) < NEAR_US for other_us in others_us)
