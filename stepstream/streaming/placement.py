"""Where the counts of devices are, and where they belong after partitions were added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stepstream.outputs import Group
from stepstream.streaming.partitioning import hash_of_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Found", "explained", "find_misplaced", "merge"]


class Found(NamedTuple):
    """A device's record in a partition of the state topic; unknown fields are kept."""

    partition: int
    content: dict[str, Any]


def merge(records: Sequence[Found], target: int) -> dict[str, Any]:
    """One record of all that a device has: counts are added, the rest is that of its last step.

    Parameters
    ----------
    records
        Its records, one of a partition.
    target
        The partition where it is now. Only an offset that belongs to it is kept.
    """
    at, latest = max(records, key=lambda found: int(found.content["ended_us"]))
    if at != target:
        latest = {**latest, **_located(latest, at)}
    there = next((found.content for found in records if found.partition == target), None)
    return {
        **latest,
        "step_count": sum(found.content["step_count"] for found in records),
        "offset": -1 if there is None else there["offset"],
        "topic_id": latest["topic_id"] if there is None else there["topic_id"],
    }


def _located(content: Mapping[str, Any], partition: int) -> dict[str, Any]:
    """Its minute and walk with the partition of their first step, after which they are named."""
    located = {}
    for name in ("last_minute", "last_walk"):
        if content.get(name) is not None:
            group = msgspec.convert(content[name], Group)
            if group.partition is None:  # else it was in another one before
                located[name] = msgspec.structs.replace(group, partition=partition)
    return {name: msgspec.to_builtins(group) for name, group in located.items()}


def find_misplaced(
    devices: Mapping[str, Sequence[Found]], encode: Callable[[str], bytes], count: int
) -> tuple[dict[str, tuple[int, Sequence[Found]]], float]:
    """Devices with a record in a partition that is not theirs.

    Parameters
    ----------
    devices
        The records of each.
    encode
        Makes the key of a device id.
    count
        Partitions of the topic.

    Returns
    -------
    dict
        The partition and the records of each such device.
    float
        Share of these records whose place no earlier number of partitions explains: close to 1 if
        producers don't choose partitions as this program believes.
    """
    misplaced = {}
    places: list[tuple[int, int]] = []
    for device_id, records in devices.items():
        number = hash_of_key(encode(device_id))
        target = number % count
        elsewhere = [found.partition for found in records if found.partition != target]
        if elsewhere:
            misplaced[device_id] = target, records
            places += [(number, partition) for partition in elsewhere]
    return misplaced, 1 - explained(places, count) / len(places) if places else 0.0


def explained(places: Sequence[tuple[int, int]], count: int) -> int:
    """How many keys are where they were in earlier times, when there were fewer partitions.

    Parameters
    ----------
    places
        Hash and partition of each key.
    count
        Partitions now. Up to two numbers of partitions before are found out.
    """
    left = list(places)
    for _ in range(2):
        best = max(
            range(1, count), key=lambda n: sum(h % n == number for h, number in left), default=1
        )
        left = [(h, number) for h, number in left if h % best != number]
    return len(places) - len(left)
