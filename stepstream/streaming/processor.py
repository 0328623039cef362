"""From messages to results: everything between poll and commit, without Kafka."""

from __future__ import annotations

import logging
import time
from itertools import zip_longest
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stepstream.detection import (
    Counters,
    Readings,
    Rules,
    SplitReadings,
    make_step_detector,
)
from stepstream.inputs import InvalidMessage, Messages, make_format
from stepstream.outputs import ActivityRules, OutputRecord, make_dead_letter, make_encodings
from stepstream.streaming.counter import StepCounter
from stepstream.streaming.devices import Devices
from stepstream.streaming.doubts import Doubts
from stepstream.streaming.forgetting import decode_command, split_messages
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.limits import DeadLetterLimit
from stepstream.streaming.outbox import Results
from stepstream.streaming.partitions import Partition
from stepstream.streaming.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stepstream.detection import Model, Predict
    from stepstream.detection.model import Hops
    from stepstream.inputs import InputFormat, Schemas
    from stepstream.settings import Settings
    from stepstream.streaming.forgetting import Part

    Polled = Mapping[Partition, Sequence["Message"]]

__all__ = ["Message", "Processor"]

logger = logging.getLogger(__name__)

_SECOND = itemgetter(1)


class Message(Protocol):
    """A message of the Kafka client."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> Any: ...


class Processor:
    """Turns the messages of many partitions into results.

    Parameters
    ----------
    model
        The network.
    settings
        All settings.
    totals
        Where messages, results and the time of each stage are added up.
    """

    def __init__(self, model: Model, settings: Settings, totals: Totals | None = None) -> None:
        self._settings = settings
        self._totals = totals or Totals()
        self._formats: dict[str, InputFormat] = {}
        for topic in settings.topics.readings:
            self._format(topic)
        self._holds = settings.processing.on_dead_letter_limit == "pause"
        self._max_ahead_us = round(settings.processing.max_ahead_s * 1e6)
        self._encodings = make_encodings(settings)
        self._activity = ActivityRules.of(settings.topics, settings.output)
        self.counters = Counters()
        """What the detector has counted, with all models that it ran."""
        self.doubts = Doubts()
        """Topics whose readings look as if they had another unit."""
        self._use(model)

    def _use(self, model: Model) -> None:
        settings = self._settings
        self._metadata = model.metadata
        self.detector = make_step_detector(
            model,
            Rules.of(settings.processing),
            counters=self.counters,
            predict=_timed(model.predict, self._totals),
        )
        self.devices = Devices(self.detector, settings.processing.max_devices, self._note_split)
        self._counter = StepCounter(settings, self._encodings, model.metadata.label)

    def _note_split(self, one: Partition, other: Partition, device_id: str) -> None:
        """Count a device whose messages are in two partitions; warn of the first."""
        self._totals.devices_in_two_partitions += 1
        if self._totals.devices_in_two_partitions == 1:
            logger.warning(
                "a device is in two partitions of a topic, so its steps are not counted right; all "
                "producers must choose partitions by the device id, in the same way",
                extra={"device": f"{device_id} in {one!r} and {other!r}"},
            )

    def _format(self, topic: str) -> InputFormat:
        """The format of a topic's messages."""
        known = self._formats.get(topic)
        if known is None:
            settings = self._settings
            known = make_format(settings.input_of(topic), settings.registry)
            self._formats[topic] = known
        return known

    def schemas(self, topic: str) -> Schemas | None:
        """Schemas that a topic's messages need, see `InputFormat.schemas`."""
        return self._format(topic).schemas

    def replace_model(self, model: Model) -> None:
        """Continue with another model.

        Raises
        ------
        RuntimeError
            Some devices have windows, which belong to the previous model.
        """
        if len(self.devices):
            raise RuntimeError("devices have windows that another model began")
        self._use(model)

    def add_partition(self, topic: str, number: int) -> Partition:
        """A partition of which nothing is processed yet."""
        settings = self._settings.processing
        ledger = Ledger.of(
            self._metadata, settings, self._settings.kafka.group_id, topic, self._activity
        )
        limit = DeadLetterLimit(
            settings.dead_letter_window, settings.dead_letter_share, settings.dead_letter_streak
        )
        return Partition(topic, number, ledger, limit, self._max_ahead_us)

    def remove_partition(self, partition: Partition) -> None:
        """Free the slots of a partition's devices, and forget what its topic looks like."""
        self.devices.release_all(partition)
        self.doubts.forget(partition.topic)

    def process(self, polled: Polled, now_us: int) -> list[Results]:
        """Process messages.

        Messages that a partition has to replay rebuild its windows and give no records. Commands
        among them are carried out in their order, see `forgetting`.

        Parameters
        ----------
        polled
            The messages of each partition, in the order of their offsets. Those below the
            partition's next offset are skipped.
        now_us
            The clock, microseconds since the epoch.

        Returns
        -------
        list of Results
            For each partition, in the same order.
        """
        begin_s = time.perf_counter()
        results = {partition: Results(partition) for partition in polled}
        parts = {
            partition: split_messages(messages, partition.next_offset, partition.publish_from)
            for partition, messages in polled.items()
        }
        for turn in zip_longest(*parts.values()):
            now = {p: part for p, part in zip(parts, turn, strict=True) if part is not None}
            for partition, part in now.items():
                if part.first_offset >= partition.publish_from:
                    # The last offsets that are replayed may be transaction markers, which never
                    # come.
                    partition.advance(max(partition.next_offset, partition.publish_from))
            self._detect(now, now_us, results)
            for partition, part in now.items():
                if part.command is not None:
                    self._forget(partition, part.command, now_us, results[partition])
        self.doubts.look(self.devices, self.detector, now_us)
        for partition, result in results.items():
            self._complete(partition, result, now_us // 1000)
        self._note(list(results.values()), time.perf_counter() - begin_s)
        return list(results.values())

    def first_results(self, partition: Partition, now_us: int) -> Results:
        """What to commit of a partition of which nothing is processed yet."""
        results = Results(partition)
        self._complete(partition, results, now_us // 1000)
        return results

    def _detect(
        self, parts: Mapping[Partition, Part], now_us: int, results: Mapping[Partition, Results]
    ) -> None:
        stage_s = self._totals.stage_s
        begin_s = time.perf_counter()
        decoded = {
            partition: self._decode(partition, part, now_us, results[partition])
            for partition, part in parts.items()
            if part.messages
        }
        found = [readings for readings in decoded.values() if len(readings)]
        decoded_s = time.perf_counter()
        stage_s["decode"] += decoded_s - begin_s
        if found:
            model_s = stage_s["model"]
            split = [readings for readings in found if isinstance(readings, SplitReadings)]
            joined = [readings for readings in found if not isinstance(readings, SplitReadings)]
            steps = self.detector.feed(
                Readings.concatenate(joined) if joined else Readings.none(),
                SplitReadings.concatenate(split) if split else None,
            )
            found_s = time.perf_counter()
            stage_s["windows"] += found_s - decoded_s - (stage_s["model"] - model_s)
            self._counter.count(steps, self.devices, decoded, results, now_us // 1000)
            stage_s["publish"] += time.perf_counter() - found_s

    def _decode(self, partition: Partition, part: Part, now_us: int, results: Results) -> Readings:
        """The valid readings of messages that all are replayed or all are new."""
        messages = part.messages
        # A client's own methods as functions, called from C: a third of what calls in Python cost.
        kind, count = type(messages[0]), len(messages)
        offsets = _offsets(messages)
        record_ms = np.fromiter(map(_SECOND, map(kind.timestamp, messages)), np.int64, count)
        input_format = self._format(partition.topic)
        keys, values, unread = input_format.open(
            part.keys,
            list(map(kind.value, messages)),
            lambda row: _headers(messages[row]),
        )
        replays = partition.is_replaying
        partition.advance(int(offsets[-1]) + 1)
        stream_ms = partition.time.advance(record_ms, now_us, is_replaying=replays)
        self.devices.release_idle(partition, int(stream_ms[0]))

        identified = self.devices.identify(partition, keys)
        identified.invalid.update(unread)
        latest_us = partition.time.latest_us(stream_ms, now_us, is_replaying=replays)
        decoded = input_format.decode(Messages(values, identified.device_ids, record_ms, latest_us))
        for row, error in decoded.invalid.items():
            identified.invalid.setdefault(row, error)
            if error.time_us is not None:
                lead_us = error.time_us - int(stream_ms[row]) * 1000
                partition.time.note_refused(int(offsets[row]), lead_us)
        self.devices.add_missing(partition, keys, identified)
        self.devices.note_readings(partition, max(count, len(decoded.message)))
        if identified.invalid:
            decoded = decoded.without(identified.invalid)
        message, time_us, axes, _, sensors = decoded
        if replays:
            results.replayed += count
        else:
            self._reject(partition, messages, identified.invalid, results)
            results.messages += count
            results.readings += len(message)
            if len(message):
                newest = np.flatnonzero(np.diff(message, append=-1))
                results.times.note(time_us[newest], stream_ms[message[newest]])
        slot = np.fromiter(identified.slots, np.intp, count)[message]
        if not replays:
            self.devices.traffic.note_readings(slot, now_us)
        spans_ms = Rules.spans_ms(message, time_us)
        columns = (slot, time_us, axes, offsets[message], stream_ms[message], spans_ms)
        return Readings(*columns) if sensors is None else SplitReadings(*columns, sensors)

    def _forget(
        self, partition: Partition, command: Message, now_us: int, results: Results
    ) -> None:
        """Carry out a command to forget devices; in a replay only their windows are left."""
        replays = partition.is_replaying
        partition.advance(command.offset() + 1)
        record_ms = np.array([command.timestamp()[1]])
        (stream_ms,) = partition.time.advance(record_ms, now_us, is_replaying=replays).tolist()
        try:
            device_ids = decode_command(command)
        except InvalidMessage as error:
            if not replays:
                self._reject(partition, [command], {0: error}, results)
            return
        for device_id in device_ids:
            self.devices.release(partition, device_id.encode())
        if replays:
            results.replayed += 1
            return
        results.messages += 1
        self._counter.forget(device_ids, stream_ms, results)

    def _reject(
        self,
        partition: Partition,
        messages: Sequence[Message],
        invalid: Mapping[int, InvalidMessage],
        results: Results,
    ) -> None:
        """Make invalid messages dead letters."""
        partition.limit.note(len(messages), invalid)
        for row in sorted(invalid):
            results.records.append(self._dead_letter(partition, messages[row], invalid[row]))
            results.dead_letters[invalid[row].code] += 1

    def _dead_letter(
        self, partition: Partition, message: Message, error: InvalidMessage
    ) -> OutputRecord:
        return make_dead_letter(
            message.key(),
            message.value(),
            _headers(message),
            topic=partition.topic,
            partition=partition.number,
            offset=message.offset(),
            timestamp_ms=message.timestamp()[1],
            error=error,
            dead_letter_topic=self._settings.topics.dead_letters,
        )

    def _note(self, results: Sequence[Results], took_s: float) -> None:
        """Add up what the messages of a poll gave."""
        totals = self._totals
        totals.polls += 1
        totals.processing_s += took_s
        totals.batch_messages.add(sum(one.messages + one.replayed for one in results))
        for one in results:
            totals.messages += one.messages
            totals.readings += one.readings
            totals.replayed += one.replayed
            totals.events += one.events
            totals.minutes += one.minutes
            totals.walks += one.walks
            totals.dead_letters.update(one.dead_letters)

    def _complete(self, partition: Partition, results: Results, now_ms: int) -> None:
        """Add what a successor needs to continue from here."""
        if not partition.is_replaying:
            self._counter.complete(results, now_ms)
        self.devices.update_replay_offset(partition)
        dead_letters = results.dead_letters.total()
        partition.note_results(results.readings, dead_letters, results.events)
        if self._holds and results.dead_letters and partition.limit.exceeded:
            partition.is_held = True
        results.next_offset = partition.next_offset
        results.metadata = partition.checkpoint(now_ms).encode()


def _timed(predict: Predict, totals: Totals) -> Predict:
    """A function that does what ``predict`` does, and measures its time."""

    def predict_timed(hops: Hops) -> NDArray[np.float32]:
        begin_s = time.perf_counter()
        result = predict(hops)
        took_s = time.perf_counter() - begin_s
        totals.stage_s["model"] += took_s
        totals.inference_s.add(took_s)
        totals.batch_windows.add(hops.rows.size)
        return result

    return predict_timed


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    headers = message.headers() or []
    return list(headers.items() if isinstance(headers, dict) else headers)


def _offsets(messages: Sequence[Message]) -> NDArray[np.int64]:
    first, last = messages[0].offset(), messages[-1].offset()
    if last - first == len(messages) - 1:  # they ascend, so none is left out
        return np.arange(first, last + 1)
    return np.fromiter(map(type(messages[0]).offset, messages), np.int64, len(messages))
