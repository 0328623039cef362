"""From steps to records: which steps count, and what is published of them."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from stepstream.outputs import CountedStep, Minute, OutputRecord, Outputs, Walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepstream.detection import Readings, Steps
    from stepstream.outputs import Encoding
    from stepstream.settings import OutputKind, Settings
    from stepstream.streaming.devices import Devices
    from stepstream.streaming.outbox import Results
    from stepstream.streaming.partitions import Partition

__all__ = ["StepCounter"]

_SLOT_AND_OFFSET = itemgetter(0, 1)


class StepCounter:
    """Counts steps in the ledgers of their partitions, and adds what they give to the results.

    Parameters
    ----------
    settings
        All settings.
    encodings
        How the values of each kind of output are written.
    model
        Name and version of the model that finds the steps.
    """

    def __init__(
        self, settings: Settings, encodings: Mapping[OutputKind, Encoding], model: str
    ) -> None:
        self._state_topic = settings.topics.state
        self._device_ttl_ms = round(settings.processing.device_ttl_s * 1000)
        self._outputs = Outputs(settings.topics, settings.output, encodings, model)

    def count(
        self,
        steps: Steps,
        devices: Devices,
        readings: Mapping[Partition, Readings],
        results: Mapping[Partition, Results],
        now_ms: int,
    ) -> None:
        """Count steps, and add the records of those that were not counted before.

        Parameters
        ----------
        steps
            Steps that the detector found.
        devices
            Whose they are.
        readings
            The readings in which they were found, for each partition.
        results
            Where records are added.
        now_ms
            The clock, milliseconds since the epoch.
        """
        rows = zip(steps.slot.tolist(), steps.offset.tolist(), steps.rows(), strict=True)
        counted: dict[Partition, list[CountedStep]] = {}
        for (slot, offset), found in groupby(rows, key=_SLOT_AND_OFFSET):
            partition, key, device_id = devices[slot]
            if offset < partition.publish_from:
                continue
            ends = [row for _, _, row in found]
            counts = partition.ledger.count(device_id, offset, [end_us for _, end_us, *_ in ends])
            counted.setdefault(partition, []).extend(
                CountedStep(
                    partition.topic, partition.number, offset, number, key, device_id, count, *row
                )
                for number, (row, count) in enumerate(zip(ends, counts, strict=True))
                if count is not None
            )
        for partition, these in counted.items():
            result, read = results[partition], readings[partition]
            stream_ms = read.stream_ms[np.searchsorted(read.offset, [s.offset for s in these])]
            result.events += len(these)
            result.times.note_events(stream_ms)
            result.records += self._outputs.events(these)
            for record in self._outputs.counts(these):
                result.add_latest(record)
            activities = partition.ledger.activities
            for step, at_ms in zip(these, stream_ms.tolist(), strict=True):
                activities.add(step, at_ms)
            for device_id in {step.device_id for step in these}:
                self._add_entry(result, device_id, now_ms)

    def complete(self, results: Results, now_ms: int) -> None:
        """Add what became final with time, and the upkeep of the ledger; not while replaying."""
        partition = results.partition
        ledger = partition.ledger
        changed = ledger.activities.finish(partition.time.ms)
        if partition.next_offset >= partition.range.end:
            end_ms = max(partition.time.ms, partition.range.end_ms)
            changed += ledger.activities.finish_range(end_ms * 1000)
        for device_id in changed:
            self._add_entry(results, device_id, now_ms)
        final = list(ledger.activities.take_final())
        results.minutes += sum(isinstance(group, Minute) for group in final)
        results.walks += sum(isinstance(group, Walk) for group in final)
        results.records += self._outputs.final(partition.topic, partition.number, final)
        upkeep = ledger.maintain(
            now_ms,
            self._device_ttl_ms,
            lambda device_id: device_id.encode() in partition.slots,
        )
        for device_id in upkeep.kept:
            self._add_entry(results, device_id, now_ms)
        for device_id in upkeep.deleted:
            self._add_tombstones(results, device_id)

    def forget(self, device_ids: Sequence[str], stream_ms: int, results: Results) -> None:
        """Forget devices at a stream time.

        Their minutes and walks that are final by then are published, whether a poll ended in
        between or not; open ones are dropped.
        """
        for device_id in device_ids:
            if results.partition.ledger.forget(device_id, stream_ms):
                self._add_tombstones(results, device_id)

    def _add_tombstones(self, results: Results, device_id: str) -> None:
        self._add_state(results, results.partition.ledger.key(device_id), None)
        forgotten = self._outputs.forgotten_count(results.partition.topic, device_id)
        if forgotten is not None:
            results.add_latest(forgotten)

    def _add_entry(self, results: Results, device_id: str, now_ms: int) -> None:
        self._add_state(results, *results.partition.ledger.record(device_id, now_ms))

    def _add_state(self, results: Results, key: bytes, value: bytes | None) -> None:
        number = results.partition.number
        results.add_latest(OutputRecord(self._state_topic, key, value, partition=number))
