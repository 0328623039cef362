"""The last minutes and walks of a partition's devices, as steps come and time passes."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec

from stepstream.outputs.groups import (
    LONGEST_PAUSE_US,
    MINUTE_US,
    ActivityRules,
    DeviceActivity,
    Group,
    Minute,
    Walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.outputs.steps import CountedStep

__all__ = ["Activities"]

FINISHED_AT_ONCE = 10_000
"""Devices whose groups become final with time in one call, at most."""


class Activities:
    """The last minutes and walks of the devices of one partition.

    Parameters
    ----------
    rules
        How steps are grouped.
    """

    def __init__(self, rules: ActivityRules) -> None:
        self._rules = rules
        self._devices: dict[str, DeviceActivity] = {}
        self._final: list[Minute | Walk] = []
        self._due: list[tuple[int, str]] | None = None
        """A heap of devices with the stream time at which one of their groups may be final; None
        until `finish` needs it."""
        self._scheduled: set[str] = set()
        """The devices in the heap. If a device is less late than it was, its time there is too
        late; this delays records, and changes none."""

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device_id: str) -> DeviceActivity | None:
        """What is known of a device, if anything is."""
        return self._devices.get(device_id)

    def open_groups(self, device_id: str) -> tuple[Minute | None, Walk | None]:
        """The minute and the walk of a device that are not final, as they are so far."""
        known = self._devices.get(device_id)
        minute = walk = None
        if known is not None and known.minute is not None and not known.minute.is_final:
            minute = _minute(device_id, known.minute, known.ended_us)
        if known is not None and known.walk is not None and not known.walk.is_final:
            walk = _walk(device_id, known.walk, known.ended_us)
        return minute, walk

    def restore(self, device_id: str, activity: DeviceActivity | None) -> None:
        """Set what is known of a device; before any step is added."""
        if activity is None or not self._rules.are_needed:
            self._devices.pop(device_id, None)
        else:
            minute = activity.minute if self._rules.minutes else None
            walk = activity.walk if self._rules.walks else None
            self._devices[device_id] = DeviceActivity(
                activity.ended_us, activity.seen_ms, minute, walk
            )

    def forget(self, device_id: str) -> None:
        """Forget a device."""
        self._devices.pop(device_id, None)

    def end(self, device_id: str, stream_ms: int) -> None:
        """Forget a device at a stream time; what is final by then is not lost."""
        known = self._devices.pop(device_id, None)
        if known is not None:
            self._finish(device_id, known, stream_ms)

    def add(self, step: CountedStep, stream_ms: int) -> None:
        """Add a step to the minute and walk of its device.

        Parameters
        ----------
        step
            The step; those of a device come in the order in which they count.
        stream_ms
            Stream time at the message that completed it, milliseconds since the epoch.
        """
        rules = self._rules
        if not rules.are_needed:
            return
        device_id, start_us, end_us = step.device_id, step.start_us, step.end_us
        walking_us = end_us - start_us
        minute = walk = None
        known = self._devices.get(device_id)
        if known is not None:
            before_us = known.ended_us
            # Nothing is final before, and most steps come before.
            if stream_ms * 1000 >= before_us + rules.grace_us:
                known = self._finish(device_id, known, stream_ms)
            minute, walk = known.minute, known.walk
            if 0 < end_us - before_us <= LONGEST_PAUSE_US:
                walking_us = end_us - before_us
            if minute is not None and end_us // MINUTE_US != before_us // MINUTE_US:
                self._finish_minute(device_id, minute, before_us)
                minute = None
            goes_on = end_us > before_us and start_us - before_us <= rules.walk_gap_us
            if walk is not None and not goes_on:
                self._finish_walk(device_id, walk, before_us)
                walk = None
        activity = DeviceActivity(
            end_us,
            stream_ms,
            _group_with(step, minute, walking_us) if rules.minutes else None,
            _group_with(step, walk, walking_us) if rules.walks else None,
        )
        self._devices[device_id] = activity
        if self._due is not None and device_id not in self._scheduled:
            self._schedule(device_id, activity)

    def finish(self, stream_ms: int) -> list[str]:
        """Make groups final that are so at a stream time; the devices that had one.

        A call may leave some for the next one, so that results are bounded.
        """
        if self._due is None:
            self._due = []
            for device_id, activity in self._devices.items():
                self._schedule(device_id, activity)
        changed: list[str] = []
        while self._due and self._due[0][0] <= stream_ms and len(changed) < FINISHED_AT_ONCE:
            _, device_id = heapq.heappop(self._due)
            self._scheduled.discard(device_id)
            known = self._devices.get(device_id)
            if known is not None:
                activity = self._devices[device_id] = self._finish(device_id, known, stream_ms)
                if activity is not known:
                    changed.append(device_id)
                self._schedule(device_id, activity)
        return changed

    def finish_range(self, end_us: int) -> list[str]:
        """Make groups final that were over when the last message of all was sent.

        Parameters
        ----------
        end_us
            When that was, microseconds since the epoch.

        Returns
        -------
        list of str
            The devices that had one.
        """
        changed: list[str] = []
        for device_id, known in list(self._devices.items()):
            made = len(self._final)
            minute, walk = known.minute, known.walk
            is_minute_over, is_walk_over = self._rules.are_complete(known, end_us)
            if minute is not None and is_minute_over:
                minute = self._finish_minute(device_id, minute, known.ended_us)
            if walk is not None and is_walk_over:
                walk = self._finish_walk(device_id, walk, known.ended_us)
            if len(self._final) > made:
                activity = msgspec.structs.replace(known, minute=minute, walk=walk)
                self._devices[device_id] = activity
                changed.append(device_id)
        return changed

    def count_open(self) -> tuple[int, int]:
        """How many minutes and walks are not final."""
        groups = [self.open_groups(device_id) for device_id in self._devices]
        return sum(bool(minute) for minute, _ in groups), sum(bool(walk) for _, walk in groups)

    def take_final(self) -> Iterator[Minute | Walk]:
        """What became final since the last call, in this order for each device."""
        final, self._final = self._final, []
        return iter(final)

    def _schedule(self, device_id: str, activity: DeviceActivity) -> None:
        final_ms = self._rules.next_final_ms(activity)
        if self._due is not None and final_ms is not None:
            heapq.heappush(self._due, (final_ms, device_id))
            self._scheduled.add(device_id)

    def _finish(self, device_id: str, activity: DeviceActivity, stream_ms: int) -> DeviceActivity:
        """The activity after its groups became final that are so at a stream time."""
        rules, minute, walk = self._rules, activity.minute, activity.walk
        if minute is not None and stream_ms >= rules.minute_final_ms(activity):
            minute = self._finish_minute(device_id, minute, activity.ended_us)
        if walk is not None and stream_ms >= rules.walk_final_ms(activity):
            walk = self._finish_walk(device_id, walk, activity.ended_us)
        if minute is activity.minute and walk is activity.walk:
            return activity
        return DeviceActivity(activity.ended_us, activity.seen_ms, minute, walk)

    def _finish_minute(self, device_id: str, group: Group, ended_us: int) -> Group:
        if group.is_final:
            return group
        self._final.append(_minute(device_id, group, ended_us))
        return msgspec.structs.replace(group, is_final=True)

    def _finish_walk(self, device_id: str, group: Group, ended_us: int) -> Group:
        if group.is_final:
            return group
        self._final.append(_walk(device_id, group, ended_us))
        return msgspec.structs.replace(group, is_final=True)


def _group_with(step: CountedStep, group: Group | None, walking_us: int) -> Group:
    """A group and a further step, or the group that the step begins."""
    if group is None:
        return Group(1, walking_us, step.start_us, step.offset, step.number)
    return Group(
        group.steps + 1,
        group.walking_us + walking_us,
        group.started_us,
        group.offset,
        group.number,
        partition=group.partition,
    )


def _minute(device_id: str, group: Group, ended_us: int) -> Minute:
    return Minute(
        device_id,
        group.offset,
        group.number,
        ended_us // MINUTE_US,
        group.steps,
        group.walking_us,
        group.partition,
    )


def _walk(device_id: str, group: Group, ended_us: int) -> Walk:
    return Walk(
        device_id,
        group.offset,
        group.number,
        group.started_us,
        ended_us,
        group.steps,
        group.walking_us,
        group.partition,
    )
