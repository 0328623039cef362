"""Steps by device: what a backfill found, beside what the live consumers published."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from stepstream.errors import StreamError
from stepstream.outputs import ActivityRules, read_value
from stepstream.streaming.clients import explain_kafka_errors, patiently
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.ranges import Range
from stepstream.streaming.reading import read_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import Message

    from stepstream.settings import Settings
    from stepstream.streaming.cluster import Cluster, TopicIdentity

__all__ = [
    "PERCENTILES",
    "Comparison",
    "Difference",
    "Live",
    "common_ranges",
    "compare",
    "count_found",
    "count_published",
    "identify_events",
    "ranges_read_by",
    "read_ledgers",
]

MARGIN_MS = 600_000
"""Events may be this much older than the first reading, by record time: clocks differ."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
MOST = 10
MAX_STEPS = 1 << 20
"""More than the steps that one message completes."""

Counts = dict[tuple[str, int], dict[str, int]]
"""Steps of each device, by topic and partition of its readings."""


class _Event(msgspec.Struct):
    event_id: str
    device_id: str
    ended_at: float = 0.0


_decode = msgspec.json.Decoder(_Event).decode


class _Step(NamedTuple):
    """An event; partition and offset of the reading that completed it; which of its steps it is."""

    event: _Event
    name: tuple[str, int]
    offset: int
    number: int


def _read(message: Message) -> _Step:
    value = message.value() or b""
    headers: Any = message.headers() or ()
    try:
        if value[:1] == b"{":
            event = _decode(value)
        else:
            event = msgspec.convert(read_value("step", value, headers), _Event)
        topic, partition, offset, number = event.event_id.rsplit("-", 3)
        return _Step(event, (topic, int(partition)), int(offset), int(number))
    except ValueError:
        raise StreamError(
            f"{message.topic()}-{message.partition()}, offset {message.offset()}, is no event"
        ) from None


class Live(NamedTuple):
    """What was published.

    Attributes
    ----------
    counts
        Steps of each device in the ranges.
    may_lack
        Whether some of its oldest events may have been deleted.
    """

    counts: Counts
    may_lack: bool


class Difference(NamedTuple):
    """A device: its topic, its id, and its steps by both."""

    topic: str
    device_id: str
    found: int
    live: int


@dataclass(frozen=True)
class Comparison:
    """Steps by device of two models.

    Attributes
    ----------
    devices
        Devices with a step by either.
    only_found, only_live
        Those with steps by one of them only.
    found, live
        All steps.
    ratios
        Percentiles, over the devices with steps in both, of the steps found for each live one.
    most
        The devices that differ most.
    """

    devices: int
    only_found: int
    only_live: int
    found: int
    live: int
    ratios: Mapping[int, float]
    most: list[Difference]

    def describe(self, events: str) -> str:
        """Some lines of text; ``events`` is the topic of what was published live."""
        change = f"{self.found / self.live - 1:+.2%}" if self.live else "none to compare with"
        lines = [
            f"compared with {events}, for the same readings",
            f"steps: {self.found:,}, live {self.live:,} ({change})",
        ]
        lines.append(
            f"devices with steps: {self.devices:,}; only here {self.only_found:,}, "
            f"only live {self.only_live:,}"
        )
        if self.ratios:
            shown = "  ".join(f"p{share} {value:.3f}" for share, value in self.ratios.items())
            lines.append(f"steps for each live step, by device: {shown}")
        lines += [
            f"  {one.device_id} ({one.topic}): {one.found:,}, live {one.live:,} "
            f"({one.found - one.live:+,})"
            for one in self.most
        ]
        return "".join(f"{line}\n" for line in lines)


def common_ranges(
    settings: Settings, one: Cluster, other: Cluster, begin_ms: int
) -> dict[tuple[str, int], Range]:
    """What two groups have both processed of their readings since a time.

    Parameters
    ----------
    settings
        Topics of the readings.
    one, other
        Say what each group has committed.
    begin_ms
        The first record time, milliseconds since the epoch.

    Raises
    ------
    StreamError
        A group has committed nothing.
    KafkaException
        A broker refuses.
    """
    names = [
        (name, number)
        for name, topic in one.find_topics(settings.topics).items()
        for number in range(topic.identity.partition_count)
    ]
    begins = one.messages_since(dict.fromkeys(names, begin_ms))
    committed = [cluster.committed_offsets(names) for cluster in (one, other)]
    for offsets, cluster in zip(committed, (one, other), strict=True):
        if all(position.offset < 0 for position in offsets.values()):
            raise StreamError(f"the group {cluster.group} has committed nothing")
    ranges = {}
    for name, (begin, _) in begins.items():
        # One whose offset a transaction is changing is left out this time.
        ends = [offsets[name].offset for offsets in committed if name in offsets]
        if len(ends) == len(committed) and begin < min(ends):
            ranges[name] = Range(begin, min(ends), begin_ms)
    return ranges


def ranges_read_by(
    cluster: Cluster, group: str, ranges: Mapping[tuple[str, int], Range]
) -> dict[tuple[str, int], Range]:
    """The parts of ranges that a group has read.

    Raises
    ------
    StreamError
        It has committed nothing, or can't be asked for.
    """
    with explain_kafka_errors(f"the group {group} can't be asked"):
        found = patiently(lambda: cluster.committed_offsets(ranges, group, stable=False))
    if all(position.offset < 0 for position in found.values()):
        raise StreamError(f"the group {group} has committed nothing")
    return {
        name: msgspec.structs.replace(range_, end=min(range_.end, found[name].offset))
        for name, range_ in ranges.items()
        if range_.begin < found[name].offset
    }


def count_found(settings: Settings, cluster: Cluster, names: Iterable[tuple[str, int]]) -> Counts:
    """Steps that a backfill found, see `read_ledgers`."""
    ledgers = read_ledgers(settings, cluster, names)
    return {name: ledger.step_counts() for name, ledger in ledgers.items()}


def read_ledgers(
    settings: Settings, cluster: Cluster, names: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Ledger]:
    """The ledgers of a backfill.

    Parameters
    ----------
    settings
        Those of the backfill.
    cluster
        Says where its state topic ends.
    names
        Its partitions.

    Raises
    ------
    StreamError
        Nothing more of the state topic comes.
    KafkaException
        It can't be read.
    """
    state, group = settings.topics.state, settings.kafka.group_id
    rules = ActivityRules.of(settings.topics, settings.output)
    ledgers = {name: Ledger(group, name[0], "", 0, 0, rules) for name in names}
    by_number: dict[int, list[Ledger]] = {}
    for (_, number), ledger in ledgers.items():
        by_number.setdefault(number, []).append(ledger)
    asked = [(state, number) for number in by_number]
    ends = patiently(lambda: cluster.offsets(asked, at_end=True, stable=True))
    offsets = {number: (0, end) for (_, number), end in ends.items()}
    for messages in read_between(settings.kafka, state, offsets):
        for message in messages:
            for ledger in by_number[message.partition() or 0]:
                ledger.restore(message.key(), message.value(), message.timestamp()[1])
    return ledgers


def count_published(
    settings: Settings, cluster: Cluster, events: str, ranges: Mapping[tuple[str, int], Range]
) -> Live:
    """Steps that were published of the readings in ranges: their event ids say where they are.

    An event that was published again counts once. Memory grows with the devices, not with the
    events.

    Parameters
    ----------
    settings
        How to connect.
    cluster
        Says where the events begin and end.
    events
        The topic of the events.
    ranges
        Of each partition.

    Raises
    ------
    StreamError
        The topic can't be read, or doesn't hold events.
    """
    counts: dict[tuple[str, int], Counter[str]] = {name: Counter() for name in ranges}
    latest: dict[tuple[str, int], dict[str, int]] = {name: {} for name in ranges}
    with explain_kafka_errors(f"{events} can't be read"):
        topic = identify_events(cluster, events)
        names = [(events, number) for number in range(topic.partition_count)]
        first = patiently(lambda: cluster.offsets(names, at_end=False))
        ends = patiently(lambda: cluster.offsets(names, at_end=True, stable=True))
        begins = _begins(settings, cluster, first, ends, ranges)
        offsets = {number: (begins[events, number], ends[events, number]) for _, number in names}
        for messages in read_between(settings.kafka, events, offsets):
            for event, name, offset, number in map(_read, messages):
                range_ = ranges.get(name)
                if range_ is None or not range_.begin <= offset < range_.end:
                    continue
                place = offset * MAX_STEPS + number
                # They come in order; what comes again was published twice (at_least_once).
                if place > latest[name].get(event.device_id, -1):
                    latest[name][event.device_id] = place
                    counts[name][event.device_id] += 1
    may_lack = any(0 < first[name] == begins[name] for name in names)
    return Live({name: dict(found) for name, found in counts.items()}, may_lack)


def identify_events(cluster: Cluster, events: str) -> TopicIdentity:
    """The topic of events that are to be compared.

    Raises
    ------
    StreamError
        It doesn't exist, or can't be asked for.
    """
    with explain_kafka_errors(f"{events} can't be read"):
        topic = patiently(lambda: cluster.identify_topics([events])).get(events)
    if topic is None:
        raise StreamError(f"there is no topic {events} to compare with")
    return topic


def _begins(
    settings: Settings,
    cluster: Cluster,
    first: Mapping[tuple[str, int], int],
    ends: Mapping[tuple[str, int], int],
    ranges: Mapping[tuple[str, int], Range],
) -> Mapping[tuple[str, int], int]:
    """Where to begin to read each partition of events."""
    # No event of a reading was published before the reading.
    oldest_ms = min((range_.begin_ms for range_ in ranges.values()), default=0) - MARGIN_MS
    since = dict.fromkeys(first, max(0, oldest_ms))
    found = patiently(lambda: cluster.messages_since(since))
    begins = {**ends, **{name: offset for name, (offset, _) in found.items()}}
    # With its own time, an event of a late device may be older than its reading by any time. What
    # was found may be a transaction marker, with nothing behind it.
    places = [*begins.items(), *first.items()]
    return first if _has_event_times(settings, places, ends) else begins


def _has_event_times(
    settings: Settings,
    places: Iterable[tuple[tuple[str, int], int]],
    ends: Mapping[tuple[str, int], int],
) -> bool:
    """Whether events have the times of their steps, by the first one at or behind some places.

    The group that published them may have another `output.record_time` than these settings.
    """
    for (events, number), begin in places:
        if begin >= ends[events, number]:
            continue
        reading = read_between(settings.kafka, events, {number: (begin, ends[events, number])})
        messages = next(reading, None)
        reading.close()
        if messages:
            ended_us = round(_read(messages[0]).event.ended_at * 1e6)
            return ended_us // 1000 == messages[0].timestamp()[1]
    return False


def compare(found: Counts, live: Counts) -> Comparison:
    """Compare steps by device.

    Parameters
    ----------
    found, live
        By both; a device of two topics is two devices.
    """
    pairs: dict[tuple[str, str], list[int]] = {}
    for place, counts in enumerate((found, live)):
        for (topic, _), devices in counts.items():
            for device_id, count in devices.items():
                pairs.setdefault((topic, device_id), [0, 0])[place] += count
    table = np.array([*pairs.values()], np.int64).reshape(-1, 2)
    both = table[(table > 0).all(axis=1)]
    ratios = np.percentile(both[:, 0] / both[:, 1], PERCENTILES) if len(both) else ()
    names = list(pairs)
    differences = np.abs(table[:, 0] - table[:, 1])
    most = [
        Difference(names[row][0], names[row][1], int(table[row, 0]), int(table[row, 1]))
        for row in np.argsort(-differences, kind="stable")[:MOST].tolist()
        if differences[row]
    ]
    total = table.sum(axis=0).tolist()
    return Comparison(
        len(table),
        int((table[:, 1] == 0).sum()),
        int((table[:, 0] == 0).sum()),
        total[0],
        total[1],
        dict(zip(PERCENTILES, map(float, ratios), strict=False)),
        most,
    )
