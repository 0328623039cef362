"""Partitions wait for the schemas of their next messages, and go on as soon as they can."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.inputs import RegistryAwayError
from stepstream.streaming.partitions import Phase
from stepstream.streaming.schema_waits import SchemaWaits
from tests.streaming.records import Clock, FakeRecord
from tests.streaming.test_subscription import Immediate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import TopicPartition

TOPIC = "readings"


@dataclass(eq=False)
class Place:
    """A partition, as far as waits need it."""

    topic: str = TOPIC
    number: int = 0
    next_offset: int = 0
    phase: Phase = Phase.RUNNING

    def put_back(self) -> None:
        """Nothing is kept here."""


@dataclass(eq=False)
class Registry:
    """Schemas by the text of messages; some can't be had."""

    away: set[int]
    known: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)

    def lacking(self, values: Sequence[bytes | None]) -> dict[int, int]:
        found: dict[int, int] = {}
        for row, value in enumerate(values):
            if value is not None and int(value) not in self.known:
                found.setdefault(int(value), row)
        return found

    def pending(self, schema_ids: Sequence[int]) -> list[int]:
        return [number for number in schema_ids if number not in self.known]

    def fetch(self, schema_id: int) -> object:
        self.asked.append(schema_id)
        if schema_id in self.away:
            raise RegistryAwayError("no answer")
        return schema_id

    def admit(self, schema_id: int, _fetched: object) -> bool:
        self.known.add(schema_id)
        return True

    def forget(self) -> None:
        """There are never too many."""


class Loop(Clock):
    """The parts around the waits, which are the clock's own."""

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self.registry = registry
        self.paused: set[Place] = set()
        self.sought: list[int] = []
        parts: Any = self
        self.waits = SchemaWaits(parts, parts, parts, parts)

    def executor(self, name: str) -> Immediate:  # noqa: ARG002 - there is one
        return Immediate()

    def schemas(self, topic: str) -> Registry:
        assert topic == TOPIC
        return self.registry

    def pause(self, places: list[Place], _reason: object) -> None:
        self.paused.update(places)

    def resume(self, places: list[Place], _reason: object) -> None:
        self.paused.difference_update(places)

    def seek(self, at: TopicPartition) -> None:
        self.sought.append(at.offset)

    def poll(self, place: Place, *ids: int) -> list[int]:
        """The ids of the messages that can be parsed, of some that begin at the next offset."""
        records = [
            FakeRecord(b"key", b"%d" % number, place.next_offset + row, 0)
            for row, number in enumerate(ids)
        ]
        polled: Any = {place: records}
        ready: Any = self.waits.split(polled)
        taken = [int(record.value()) for record in ready.get(place, [])]
        place.next_offset += len(taken)
        return taken


def test_a_partition_goes_on_with_the_first_schema_though_a_later_one_is_missing() -> None:
    loop, place = Loop(Registry(away={3})), Place()
    assert loop.poll(place, 1, 1, 2, 3) == []
    assert loop.paused == {place}
    loop.waits.turn()
    loop.waits.turn()
    assert loop.registry.asked == [1, 2, 3], "they are fetched together"
    assert (loop.paused, loop.sought) == (set(), [0])
    assert loop.poll(place, 1, 1, 2, 3) == [1, 1, 2]
    loop.now_s += 60
    loop.waits.turn()
    loop.waits.turn()
    assert loop.paused == {place}
    loop.registry.away.clear()
    loop.now_s += 60
    loop.waits.turn()
    loop.waits.turn()
    assert (loop.paused, loop.sought) == (set(), [0, 3])
    assert loop.poll(place, 3) == [3]


@pytest.mark.parametrize("known", [set(), {1}])
def test_a_partition_waits_while_the_first_schema_is_missing(known: set[int]) -> None:
    loop, place = Loop(Registry(away={2}, known=known)), Place()
    loop.poll(place, *known, 2, 3)
    loop.waits.turn()
    loop.waits.turn()
    assert loop.paused == {place}
    assert loop.registry.asked == [2]
