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

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from stepstream.settings import OutputSettings, TopicSettings

__all__ = [
    "LONGEST_PAUSE_US",
    "MINUTE_US",
    "ActivityRules",
    "DeviceActivity",
    "Group",
    "Minute",
    "Walk",
]

MINUTE_US = 60_000_000
LONGEST_PAUSE_US = 2_000_000
"""The time until the next step is walking if it is not longer: 30 steps a minute."""


class Group(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Steps of a device that belong together: its last minute, or its last walk.

    In the ledger it is an array, in this order.

    Attributes
    ----------
    steps
        How many they are.
    walking_us
        Their walking time, microseconds.
    started_us, offset, number
        Of the first of them: its start, the offset of the message that completed it, and its
        number among that message's steps. The group is named after the last two.
    is_final
        Whether its record was published.
    partition
        Where that message is, if partitions were added since and the device has another one now.
    """

    steps: int
    walking_us: int
    started_us: int
    offset: int
    number: int
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
    offset: int
    number: int
    minute: int
    steps: int
    walking_us: int
    partition: int | None = None


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

    def are_complete(self, activity: DeviceActivity, end_us: int) -> tuple[bool, bool]:
        """Whether minute and walk of the last step were over when the last message was sent.

        Parameters
        ----------
        activity
            What is known of the device. If its clock is behind, or it sends late, by more than the
            grace period, it was as much behind at the end.
        end_us
            When that was, microseconds since the epoch.
        """
        late_us = activity.seen_ms * 1000 - activity.ended_us
        now_us = end_us - late_us if late_us > self.grace_us else end_us
        return (
            now_us // MINUTE_US > activity.ended_us // MINUTE_US,
            now_us >= activity.ended_us + self.walk_gap_us + LONGEST_PAUSE_US,
        )

    def next_final_ms(self, activity: DeviceActivity) -> int | None:
        """Stream time at which a group is final next; None if all are."""
        times = []
        if activity.minute is not None and not activity.minute.is_final:
            times.append(self.minute_final_ms(activity))
        if activity.walk is not None and not activity.walk.is_final:
            times.append(self.walk_final_ms(activity))
        return min(times, default=None)
