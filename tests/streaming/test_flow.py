from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stepstream.settings import ProcessingSettings
from stepstream.streaming.flow import FlowControl
from stepstream.streaming.partitions import PauseReason
from tests.streaming.test_outbox import partition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import TopicPartition

LIMITS = ProcessingSettings(outbox_max_records=100, outbox_max_bytes=1 << 20)


class Kafka:
    """Knows what the client was told last."""

    def __init__(self) -> None:
        self.paused: set[int] = set()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        numbers = {tp.partition for tp in partitions}
        assert not numbers & self.paused
        self.paused |= numbers

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        numbers = {tp.partition for tp in partitions}
        assert numbers <= self.paused
        self.paused -= numbers


def flow() -> tuple[FlowControl, Kafka]:
    kafka = Kafka()
    return FlowControl(cast("Any", kafka), LIMITS), kafka


def test_a_partition_is_fetched_again_when_its_last_reason_is_gone() -> None:
    made, kafka = flow()
    mine = partition()
    made.pause([mine], PauseReason.PREPARING)
    made.pause([mine], PauseReason.HELD)
    made.resume([mine], PauseReason.PREPARING)
    assert kafka.paused == {0}
    made.resume([mine], PauseReason.HELD)
    made.resume([mine], PauseReason.HELD)
    assert kafka.paused == set()


def test_a_full_outbox_pauses_everything_until_half_of_it_is_published() -> None:
    made, kafka = flow()
    owned = [partition(0), partition(1)]
    for records, size, paused in [
        (100, 0, False),
        (101, 0, True),
        (51, 0, True),
        (50, 0, False),
        (1, (1 << 20) + 1, True),
        (1, 1 << 19, False),
    ]:
        made.apply_backpressure(owned, records, size)
        assert made.is_backpressured == paused
        assert kafka.paused == ({0, 1} if paused else set())


def test_backpressure_lifts_no_other_reason_and_holds_partitions_that_start_meanwhile() -> None:
    made, kafka = flow()
    held, starting = partition(0), partition(1)
    made.pause([held], PauseReason.HELD)
    made.pause([starting], PauseReason.PREPARING)
    made.apply_backpressure([held, starting], 101, 0)
    made.start(starting)
    late = partition(2)
    made.pause([late], PauseReason.PREPARING)
    made.start(late)
    assert kafka.paused == {0, 1, 2}
    made.apply_backpressure([held, starting, late], 0, 0)
    assert kafka.paused == {0}
