from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from stepstream.settings import Settings, TopicSettings
from stepstream.streaming.partitioning import hash_of_key, partition_of
from stepstream.streaming.placement import Found, explained, find_misplaced, merge
from stepstream.streaming.processor import Processor
from tests.detection.builders import TransparentModel
from tests.streaming.records import TIME_MS, FakeRecord
from tests.streaming.test_processor import take

DEVICES = [f"phone-{n}" for n in range(300)]


def found(partition: int, step_count: int = 1, ended_us: int = 1, **more: object) -> Found:
    content = {"step_count": step_count, "ended_us": ended_us, "offset": 7, "topic_id": "id"}
    return Found(partition, content | more)


def test_a_moved_count_bars_no_offset_and_keeps_what_else_is_known() -> None:
    merged = merge([found(1, 100, 5_000, added="later")], target=7)
    assert merged == {
        "step_count": 100,
        "ended_us": 5_000,
        "offset": -1,
        "topic_id": "id",
        "added": "later",
    }


def test_counts_of_several_partitions_are_added_and_the_last_step_says_the_rest() -> None:
    old, new, third = found(1, 100, 5_000), found(7, 20, 9_000, offset=3), found(2, 3, 1)
    assert merge([old, new, third], target=7) == found(7, 123, 9_000, offset=3).content
    # The offset is that of the partition where the device is, whoever was last.
    late = found(1, 100, 10_000, model="m", topic_id="other")
    assert merge([late, new], target=7) == found(7, 120, 10_000, offset=3, model="m").content


@pytest.mark.parametrize("kind", ["minute", "walk"])
def test_a_minute_and_a_walk_keep_the_name_of_their_first_step(kind: str) -> None:
    group: list[Any] = [3, 2_000_000, 1, 40, 1, False]
    stored = f"last_{kind}"
    given: dict[str, Any] = {stored: [*group, None]}
    merged = merge([found(1, **given)], target=7)
    assert merged[stored] == [*group, 1]
    assert merge([Found(7, merged)], target=2)[stored] == [*group, 1]
    there = found(7, **given)
    assert merge([there, found(1, ended_us=0)], target=7)[stored] == [*group, None]
    # It goes on in the new partition, and is final there.
    settings = Settings(topics=TopicSettings(minutes="minutes", walks="walks"))
    made = Processor(TransparentModel(), settings)
    partition = made.add_partition("readings", 7)
    key = msgspec.json.encode([settings.kafka.group_id, "readings", "phone"])
    restored = {**merged, "version": 1, "ended_us": 1_700_000_000_000_000, "seen_ms": TIME_MS}
    partition.ledger.restore(key, msgspec.json.encode(restored), 1)
    far = FakeRecord(b"other", b"{}", 0, TIME_MS + 1_000_000)
    (record,) = [r for r in take(made, partition, [far]).records if r.topic == f"{kind}s"]
    value = msgspec.json.decode(record.value or b"")
    assert (value[f"{kind}_id"], value["steps"]) == ("readings-1-40-1", 3)


@pytest.mark.parametrize("earlier", [{4}, {4, 8}, {1}])
def test_counts_that_are_where_murmur2_put_them_before_are_explained(earlier: set[int]) -> None:
    random = Random(1)  # noqa: S311 - it hides nothing
    counts = [*sorted(earlier), 12]
    devices = {d: [found(partition_of(d.encode(), random.choice(counts)))] for d in DEVICES}
    misplaced, astray = find_misplaced(devices, str.encode, 12)
    assert astray == 0
    assert misplaced.keys() == {
        d for d, (one,) in devices.items() if one.partition != partition_of(d.encode(), 12)
    }
    assert all(number == partition_of(d.encode(), 12) for d, (number, _) in misplaced.items())


@pytest.mark.parametrize("count", [2, 3, 12])
def test_another_partitioner_is_noticed(count: int) -> None:
    random = Random(1)  # noqa: S311 - it hides nothing
    devices = {d: [found(random.randrange(count))] for d in DEVICES}
    _, astray = find_misplaced(devices, str.encode, count)
    assert astray > 0.3


def test_nothing_is_misplaced_where_nothing_changed() -> None:
    devices = {d: [found(partition_of(d.encode(), 4))] for d in DEVICES}
    assert find_misplaced(devices, str.encode, 4) == ({}, 0.0)
    assert find_misplaced({}, str.encode, 4) == ({}, 0.0)
    assert explained([(hash_of_key(b"a"), 0)], 1) == 1
