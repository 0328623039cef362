"""Minutes and walks: how steps are grouped, and when a group is final.

Groups follow from the counted steps of a device alone. A step belongs to the minute in which it
ends. It belongs to the walk of the step before if it starts at most the walk gap after that step's
end. Its *walking time* is the time since the end of the step before, if that is at most
`LONGEST_PAUSE_US`; after a longer pause it is the step's own length.

A group is final as soon as a step belongs to the next one, or when stream time has passed its end
by the grace period. Of a device that is late by more than the grace period, or whose clock is
behind by more, that end is always passed; there, stream time has to pass the message of the last
step by the grace period, and by the walk gap. A step that still comes for a final group opens it
again, and a second, larger record follows. Each step is judged by stream time at its own message,
so groups don't depend on how messages were polled.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.outputs.steps import CountedStep
    from stepstream.settings import OutputSettings, TopicSettings

__all__ = ["MINUTE_US", "Activities", "ActivityRules", "DeviceActivity", "Group", "Minute", "Walk"]

MINUTE_US = 60_000_000
FINISHED_AT_ONCE = 10_000
"""Devices whose groups become final with time in one call, at most."""
LONGEST_PAUSE_US = 2_000_000
"""The time until the next step is walking if it is not longer: 30 steps a minute."""


class Group(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Steps of a device that belong together: its last minute, or its last walk.

    Attributes
    ----------
    steps
        How many they are.
    walking_us
        Their walking time, microseconds.
    started_us, offset, number
        Of the first of them: its start, the offset of the message that completed it, and its
        number among that message's steps. A walk is named after them; a minute has none.
    is_final
        Whether its record was published.
    partition
        Where that message is, if partitions were added since and the device has another one now.
    """

    steps: int
    walking_us: int
    started_us: int = 0
    offset: int = 0
    number: int = 0
    is_final: bool = False
    partition: int | None = None


class DeviceActivity(msgspec.Struct, frozen=True, gc=False):
    """The last minute and walk of a device.

    Attributes
    ----------
    ended_us
        End of its last step, microseconds since the epoch.
    seen_ms
        Stream time at the message that completed this step, milliseconds since the epoch.
    minute, walk
        The groups of this step; None if they are not asked for.
    """

    ended_us: int
    seen_ms: int
    minute: Group | None
    walk: Group | None


class Minute(NamedTuple):
    """A minute that is final: minutes since the epoch, and see `Group`."""

    device_id: str
    minute: int
    steps: int
    walking_us: int


class Walk(NamedTuple):
    """A walk that is final, see `Group`; times in microseconds since the epoch."""

    device_id: str
    offset: int
    number: int
    started_us: int
    ended_us: int
    steps: int
    walking_us: int
    partition: int | None = None


@dataclass(frozen=True)
class ActivityRules:
    """How steps are grouped.

    Attributes
    ----------
    minutes, walks
        Whether these groups are asked for.
    walk_gap_us
        Longest time without a step in a walk.
    grace_us
        Grace period: time for steps that come late.
    """

    minutes: bool = False
    walks: bool = False
    walk_gap_us: int = 0
    grace_us: int = 0

    @classmethod
    def of(cls, topics: TopicSettings, settings: OutputSettings) -> ActivityRules:
        """The rules that settings describe."""
        return cls(
            bool(topics.minutes),
            bool(topics.walks),
            round(settings.walk_gap_s * 1e6),
            round(settings.grace_s * 1e6),
        )

    @property
    def are_needed(self) -> bool:
        """Whether any groups are asked for."""
        return self.minutes or self.walks

    def minute_final_ms(self, activity: DeviceActivity) -> int:
        """Stream time at which the minute of the last step is final, milliseconds."""
        end_us = (activity.ended_us // MINUTE_US + 1) * MINUTE_US
        return self._final_ms(activity, end_us, self.grace_us)

    def walk_final_ms(self, activity: DeviceActivity) -> int:
        """Stream time at which the walk of the last step is final, milliseconds."""
        end_us = activity.ended_us + self.walk_gap_us
        return self._final_ms(activity, end_us, max(self.grace_us, self.walk_gap_us))

    def _final_ms(self, activity: DeviceActivity, end_us: int, quiet_us: int) -> int:
        final_us, seen_us = end_us + self.grace_us, activity.seen_ms * 1000
        if seen_us - activity.ended_us > self.grace_us:
            final_us = max(final_us, seen_us + quiet_us)
        return -(-final_us // 1000)

    def next_final_ms(self, activity: DeviceActivity) -> int | None:
        """Stream time at which a group is final next; None if all are."""
        times = []
        if activity.minute is not None and not activity.minute.is_final:
            times.append(self.minute_final_ms(activity))
        if activity.walk is not None and not activity.walk.is_final:
            times.append(self.walk_final_ms(activity))
        return min(times, default=None)


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
        device_id, end_us = step.device_id, step.end_us
        walking_us = end_us - step.start_us
        known = self._devices.get(device_id)
        if known is not None:
            # Nothing is final before, and most steps come before.
            if stream_ms * 1000 >= known.ended_us + rules.grace_us:
                known = self._finish(device_id, known, stream_ms)
            if 0 < end_us - known.ended_us <= LONGEST_PAUSE_US:
                walking_us = end_us - known.ended_us
        minute = self._minute_with(step, known, walking_us) if rules.minutes else None
        walk = self._walk_with(step, known, walking_us) if rules.walks else None
        activity = DeviceActivity(end_us, stream_ms, minute, walk)
        self._devices[device_id] = activity
        self._schedule(device_id, activity)

    def _minute_with(
        self, step: CountedStep, known: DeviceActivity | None, walking_us: int
    ) -> Group:
        """The minute of a step; the one before is final if it is another."""
        if known is not None and known.minute is not None:
            minute = known.minute
            if step.end_us // MINUTE_US == known.ended_us // MINUTE_US:
                return Group(minute.steps + 1, minute.walking_us + walking_us)
            self._finish_minute(step.device_id, minute, known.ended_us)
        return Group(1, walking_us)

    def _walk_with(self, step: CountedStep, known: DeviceActivity | None, walking_us: int) -> Group:
        """The walk of a step; the one before is final if it is another."""
        if known is not None and known.walk is not None:
            walk, before_us = known.walk, known.ended_us
            if step.end_us > before_us and step.start_us - before_us <= self._rules.walk_gap_us:
                return Group(
                    walk.steps + 1,
                    walk.walking_us + walking_us,
                    walk.started_us,
                    walk.offset,
                    walk.number,
                    partition=walk.partition,
                )
            self._finish_walk(step.device_id, walk, before_us)
        return Group(1, walking_us, step.start_us, step.offset, step.number)

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

    def take_final(self) -> Iterator[Minute | Walk]:
        """What became final since the last call, in this order for each device."""
        final, self._final = self._final, []
        return iter(final)

    def _schedule(self, device_id: str, activity: DeviceActivity) -> None:
        if self._due is None or device_id in self._scheduled:
            return
        final_ms = self._rules.next_final_ms(activity)
        if final_ms is not None:
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


def _minute(device_id: str, group: Group, ended_us: int) -> Minute:
    return Minute(device_id, ended_us // MINUTE_US, group.steps, group.walking_us)


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
