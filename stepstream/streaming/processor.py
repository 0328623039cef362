"""From messages to what has to be published: everything between poll and commit, without Kafka."""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import groupby, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stepstream.detection import (
    Counters,
    Detector,
    Model,
    Predict,
    Readings,
    Rules,
    Steps,
    make_step_detector,
)
from stepstream.messages import (
    DeadLetter,
    ErrorCode,
    Event,
    InvalidMessage,
    ReadingsDecoder,
    decode_device_id,
    encode_event,
    event_id,
    make_dead_letter,
)
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.limits import DeadLetterLimit
from stepstream.streaming.partitions import Partition
from stepstream.streaming.totals import Times, Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from stepstream.detection.model import Hops
    from stepstream.settings import ProcessingSettings

__all__ = ["Outputs", "Processor", "Record", "make_ledger", "make_rules"]

MAX_RECORD_AHEAD_MS = 60_000
"""A record time further ahead of the clock than this doesn't move stream time."""
SWEEP_INTERVAL_MS = 1_000
REPLAY_POINT_READINGS = 4
"""The replay point is computed again after so many readings a device."""
UNKNOWN = -1
_SECOND = itemgetter(1)
_SLOT_AND_OFFSET = itemgetter(0, 1)


class Record(Protocol):
    """A message as the Kafka client hands it over."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> Any: ...


@dataclass(slots=True)
class Outputs:
    """What a partition's messages gave.

    Attributes
    ----------
    events
        Key and value of each event.
    dead_letters
        Messages to be set aside.
    state
        Key and value of each ledger record; None is a tombstone.
    next_offset
        Offset behind the last message taken.
    metadata
        What to commit with that offset.
    messages, readings
        Messages that were taken, and valid readings in them, without those that were replayed.
    replayed
        Messages that only rebuilt windows.
    times
        When some of the messages came about.
    """

    events: list[tuple[bytes, bytes]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    state: dict[bytes, bytes | None] = field(default_factory=dict)
    next_offset: int = 0
    metadata: str = ""
    messages: int = 0
    readings: int = 0
    replayed: int = 0
    times: Times = field(default_factory=Times)


def make_rules(settings: ProcessingSettings) -> Rules:
    """The detector's rules, from the settings."""
    return Rules(
        max_gap_us=settings.max_gap_ms * 1000,
        max_lateness_us=round(settings.max_lateness_s * 1e6),
        idle_timeout_ms=round(settings.idle_timeout_s * 1000),
    )


def make_ledger(
    model: Model, settings: ProcessingSettings, group: str = "", topic: str = ""
) -> Ledger:
    """An empty ledger for the model's steps."""
    metadata = model.metadata
    return Ledger(
        group,
        topic,
        metadata.label,
        refractory_us=metadata.refractory * metadata.period_us,
        max_lateness_us=round(settings.max_lateness_s * 1e6),
    )


class Processor:
    """Turns the messages of many partitions into events and dead letters.

    Parameters
    ----------
    model
        The network.
    settings
        Units, rules and limits.
    group
        The consumer group, for which steps are counted.
    totals
        Where the time that each stage takes is added up.
    """

    def __init__(
        self,
        model: Model,
        settings: ProcessingSettings,
        group: str,
        totals: Totals | None = None,
    ) -> None:
        self._totals = totals or Totals()
        self._model = model
        self._group = group
        self._settings = settings
        self._decoder = ReadingsDecoder(settings)
        self._device_ttl_ms = round(settings.device_ttl_s * 1000)
        self.counters = Counters()
        """What detection counts; goes on when the model is replaced."""
        self.detector = self._make_detector()
        self._device_ids: dict[int, str] = {UNKNOWN: ""}
        self._keys: dict[int, bytes] = {}
        self._partitions: dict[int, Partition] = {}

    def replace_model(self, model: Model) -> None:
        """Go on with another model; there must be no partition."""
        if self._partitions:
            raise RuntimeError("devices have windows that another model began")
        self._model = model
        self.detector = self._make_detector()

    def _make_detector(self) -> Detector[Steps]:
        return make_step_detector(
            self._model,
            make_rules(self._settings),
            predict=_timed(self._model.predict, self._totals),
            counters=self.counters,
        )

    def add_partition(self, topic: str, number: int) -> Partition:
        """A partition from which nothing was taken yet."""
        ledger = make_ledger(self._model, self._settings, self._group, topic)
        settings = self._settings
        limit = DeadLetterLimit(
            settings.dead_letter_window, settings.dead_letter_share, settings.dead_letter_streak
        )
        return Partition(topic, number, ledger, limit)

    def remove_partition(self, partition: Partition) -> None:
        """Forget a partition's devices."""
        self._release(partition, list(partition.slots))

    def process(
        self, polled: Iterable[tuple[Partition, Sequence[Record]]], now_us: int
    ) -> list[tuple[Partition, Outputs]]:
        """Take messages; what they give, for each partition.

        Messages that a partition has to replay rebuild its windows and give nothing.

        Parameters
        ----------
        polled
            Partitions, each once, with their messages in the order of their offsets. Messages
            below a partition's next offset are passed over.
        now_us
            The clock, microseconds since the epoch.
        """
        results = {partition: Outputs() for partition, _ in polled}
        replayed, new = [], []
        for partition, records in polled:
            expected = bisect_left(records, partition.next_offset, key=_offset)
            begin = bisect_left(records, partition.publish_from, expected, key=_offset)
            if begin > expected:
                replayed.append((partition, records[expected:begin]))
            if begin < len(records):
                new.append((partition, records[begin:]))
        # Windows must have all of the one before they are asked about the other.
        self._detect(replayed, now_us, results)
        self._detect(new, now_us, results)
        for partition, outputs in results.items():
            self._seal(partition, outputs, now_us)
        return list(results.items())

    def first_outputs(self, partition: Partition, now_us: int) -> Outputs:
        """What to commit of a partition from which nothing was taken yet."""
        outputs = Outputs()
        self._seal(partition, outputs, now_us)
        return outputs

    def _detect(
        self,
        polled: Sequence[tuple[Partition, Sequence[Record]]],
        now_us: int,
        results: dict[Partition, Outputs],
    ) -> None:
        stage_s = self._totals.stage_s
        begin_s = time.perf_counter()
        parts = []
        for partition, records in polled:
            parts += self._take(partition, records, now_us, results[partition])
        decoded_s = time.perf_counter()
        stage_s["decode"] += decoded_s - begin_s
        if parts:
            model_s = stage_s["model"]
            steps = self.detector.feed(Readings.concatenate(parts))
            found_s = time.perf_counter()
            stage_s["windows"] += found_s - decoded_s - (stage_s["model"] - model_s)
            self._publish(steps, results, now_us // 1000)
            stage_s["publish"] += time.perf_counter() - found_s

    def _seal(self, partition: Partition, outputs: Outputs, now_us: int) -> None:
        """Complete a partition's outputs by what a successor needs to go on from there."""
        now_ms = now_us // 1000
        if not partition.is_replaying:
            outputs.state.update(
                partition.ledger.maintain(
                    now_ms,
                    self._device_ttl_ms,
                    lambda device_id: device_id.encode() in partition.slots,
                )
            )
        # As often as it costs little beside the messages themselves; an older point is right too.
        if partition.taken_since >= len(partition.slots) * REPLAY_POINT_READINGS:
            slots = np.fromiter(partition.slots.values(), np.intp, len(partition.slots))
            partition.replay_point = self.detector.replay_point(slots, partition.stream_ms) or (
                partition.next_offset,
                partition.stream_ms,
            )
            partition.taken_since = 0
        outputs.next_offset = partition.next_offset
        outputs.metadata = partition.checkpoint(now_ms).encode()

    def _take(
        self, partition: Partition, records: Sequence[Record], now_us: int, outputs: Outputs
    ) -> list[Readings]:
        # A client's own methods as functions, called from C: a third of what calls in Python cost.
        kind, count = type(records[0]), len(records)
        offsets = _offsets(records)
        record_ms = np.fromiter(map(_SECOND, map(kind.timestamp, records)), np.int64, count)
        keys, values = list(map(kind.key, records)), list(map(kind.value, records))
        replays = partition.is_replaying
        partition.advance(int(offsets[-1]) + 1)
        if replays:
            # As far as it matters, the clock is what it was when these were taken first.
            now_us = (partition.stream_ms + partition.replay_behind_ms) * 1000
            latest_ms = partition.replay_stream_ms
        else:
            latest_ms = now_us // 1000 + MAX_RECORD_AHEAD_MS
        stream_ms = _advance_stream_time(partition, record_ms, latest_ms)
        if stream_ms[0] >= partition.next_sweep_ms:
            self._sweep(partition, int(stream_ms[0]))

        slots, ids, invalid = self._identify(partition, keys)
        decoded = self._decoder.decode(values, ids, record_ms, now_us)
        invalid = {**decoded.invalid, **invalid}
        if UNKNOWN in slots:
            self._open_slots(partition, keys, ids, slots, invalid)
        message, time_us, axes = decoded.message, decoded.time_us, decoded.axes
        partition.taken_since += max(count, len(message))
        if invalid:
            if not replays:
                outputs.dead_letters += [
                    self._set_aside(partition, records[row], invalid[row])
                    for row in sorted(invalid)
                ]
            good = ~np.isin(message, list(invalid))
            message, time_us, axes = message[good], time_us[good], axes[good]
        if replays:
            outputs.replayed = count
        else:
            partition.limit.note(count, invalid)
            outputs.messages, outputs.readings = count, len(message)
            _note_times(outputs, message, time_us, stream_ms)
        if not len(message):
            return []
        return [
            Readings(
                np.fromiter(slots, np.intp, count)[message],
                time_us,
                axes,
                offsets[message],
                stream_ms[message],
            )
        ]

    def _identify(
        self, partition: Partition, keys: list[bytes | None]
    ) -> tuple[list[int], list[str], dict[int, InvalidMessage]]:
        """Slots and device ids of keys; `UNKNOWN` for a device without a slot."""
        known: Callable[[bytes | None, int], int] = partition.slots.get  # type: ignore[assignment]
        slots = list(map(known, keys, repeat(UNKNOWN)))
        ids = list(map(self._device_ids.__getitem__, slots))
        invalid: dict[int, InvalidMessage] = {}
        if UNKNOWN in slots:
            for row, slot in enumerate(slots):
                if slot == UNKNOWN:
                    try:
                        ids[row] = decode_device_id(keys[row])
                    except InvalidMessage as error:
                        invalid[row] = error
        return slots, ids, invalid

    def _open_slots(
        self,
        partition: Partition,
        keys: list[bytes | None],
        ids: list[str],
        slots: list[int],
        invalid: dict[int, InvalidMessage],
    ) -> None:
        """Give the devices of valid messages that have no slot one, in the order of messages."""
        for row, slot in enumerate(slots):
            if slot == UNKNOWN and row not in invalid:
                try:
                    slots[row] = self._slot(partition, keys[row], ids[row])
                except InvalidMessage as error:
                    invalid[row] = error

    def _slot(self, partition: Partition, key: bytes | None, device_id: str) -> int:
        """The slot of a device that had none before this poll."""
        if key is None:
            raise RuntimeError("a device id was decoded from no key")
        slot = partition.slots.get(key)
        if slot is None:
            if len(partition.slots) >= self._settings.max_devices:
                raise InvalidMessage(
                    ErrorCode.DEVICE_LIMIT,
                    f"{len(partition.slots)} devices in this partition, no more are taken",
                )
            slot = self.detector.add_device()
            partition.slots[key] = slot
            self._keys[slot] = key
            self._device_ids[slot] = device_id
            self._partitions[slot] = partition
        return slot

    @staticmethod
    def _set_aside(partition: Partition, record: Record, error: InvalidMessage) -> DeadLetter:
        headers = record.headers() or []
        return make_dead_letter(
            record.key(),
            record.value(),
            list(headers.items()) if isinstance(headers, dict) else headers,
            topic=partition.topic,
            partition=partition.number,
            offset=record.offset(),
            timestamp_ms=record.timestamp()[1],
            error=error,
        )

    def _sweep(self, partition: Partition, stream_ms: int) -> None:
        """Give back the windows of devices that would start a new one anyway."""
        partition.next_sweep_ms = stream_ms + SWEEP_INTERVAL_MS
        if partition.slots:
            slots = np.fromiter(partition.slots.values(), np.intp, len(partition.slots))
            idle = self.detector.find_idle(slots, stream_ms)
            self._release(partition, [self._keys[slot] for slot in idle.tolist()])

    def _release(self, partition: Partition, keys: list[bytes]) -> None:
        slots = [partition.slots.pop(key) for key in keys]
        for slot in slots:
            del self._keys[slot], self._device_ids[slot], self._partitions[slot]
        self.detector.remove_devices(np.array(slots, np.intp))

    def _publish(self, steps: Steps, results: dict[Partition, Outputs], now_ms: int) -> None:
        """Count steps and encode those that weren't counted before."""
        label = self._model.metadata.label
        rows = zip(steps.slot.tolist(), steps.offset.tolist(), steps.rows(), strict=True)
        counted: set[int] = set()
        for (slot, offset), message_steps in groupby(rows, key=_SLOT_AND_OFFSET):
            partition, device_id = self._partitions[slot], self._device_ids[slot]
            if offset < partition.publish_from:
                continue
            events, key = results[partition].events, self._keys[slot]
            found = [row for _, _, row in message_steps]
            counts = partition.ledger.count(device_id, offset, [end_us for _, end_us, *_ in found])
            for number, (row, count) in enumerate(zip(found, counts, strict=True)):
                if count is not None:
                    name = event_id(partition.topic, partition.number, offset, number)
                    event = Event.of(device_id, count, *row, label, name)
                    events.append((key, encode_event(event)))
                    counted.add(slot)
        for slot in counted:
            partition = self._partitions[slot]
            key, value = partition.ledger.record(self._device_ids[slot], now_ms)
            results[partition].state[key] = value


def _timed(predict: Predict, totals: Totals) -> Predict:
    """A function that does what ``predict`` does, and adds up the time that it takes."""

    def timed(hops: Hops) -> NDArray[np.float32]:
        begin_s = time.perf_counter()
        result = predict(hops)
        took_s = time.perf_counter() - begin_s
        totals.stage_s["model"] += took_s
        totals.inference_s.add(took_s)
        totals.batch_windows.add(len(hops.rows))
        return result

    return timed


def _offset(record: Record) -> int:
    return record.offset()


def _note_times(
    outputs: Outputs,
    message: NDArray[np.intp],
    time_us: NDArray[np.int64],
    stream_ms: NDArray[np.int64],
) -> None:
    """Note when the last reading of each message was taken, and when it reached the broker."""
    if len(message):
        newest = np.flatnonzero(np.diff(message, append=-1))
        outputs.times.note(time_us[newest], stream_ms[message[newest]])


def _offsets(records: Sequence[Record]) -> NDArray[np.int64]:
    first, last = records[0].offset(), records[-1].offset()
    if last - first == len(records) - 1:  # they ascend, so none is left out
        return np.arange(first, last + 1)
    return np.fromiter(map(type(records[0]).offset, records), np.int64, len(records))


def _advance_stream_time(
    partition: Partition, record_ms: NDArray[np.int64], latest_ms: int
) -> NDArray[np.int64]:
    """Stream time at each message; record times later than ``latest_ms`` don't move it."""
    times = np.where(record_ms > latest_ms, 0, record_ms)
    times[0] = max(int(times[0]), partition.stream_ms)
    np.maximum.accumulate(times, out=times)
    partition.stream_ms = int(times[-1])
    return times
