"""Messages, readings, events: what the loop does, and how long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.inputs import ErrorCode
from stepstream.metrics.metric import Metric
from stepstream.metrics.readers import by
from stepstream.streaming.totals import STAGES

if TYPE_CHECKING:
    from stepstream.streaming.consumer import Consumer

__all__ = ["PROCESSING"]

PROCESSING: tuple[Metric[Consumer], ...] = (
    Metric(
        "stepstream_messages_total",
        "counter",
        "Messages processed, valid or not.",
        lambda consumer: consumer.totals.messages,
    ),
    Metric(
        "stepstream_readings_total",
        "counter",
        "Valid readings processed.",
        lambda consumer: consumer.totals.readings,
    ),
    Metric(
        "stepstream_late_readings_total",
        "counter",
        "Readings dropped because they were not after the last reading of their device.",
        lambda consumer: consumer.processor.counters.late_readings,
    ),
    Metric(
        "stepstream_gaps_total",
        "counter",
        "Pauses in a device's readings that were not bridged, and clocks that were set back; a new "
        "window starts after each.",
        lambda consumer: consumer.processor.counters.gaps,
    ),
    Metric(
        "stepstream_bridged_gaps_total",
        "counter",
        "Pauses of over 250 ms in a device's readings after which its window went on.",
        lambda consumer: consumer.processor.counters.bridged_gaps,
    ),
    Metric(
        "stepstream_late_gyroscope_samples_total",
        "counter",
        "Samples of gyroscopes, 80 a second, that were not used: the sensors send apart, and the "
        "gyroscope came more than `processing.sensor_wait_ms` after the accelerometer.",
        lambda consumer: consumer.processor.counters.late_gyro_samples,
    ),
    Metric(
        "stepstream_devices_in_two_partitions_total",
        "counter",
        "Devices that have windows in two partitions of a topic at a time, so that their steps are "
        "not counted right; partitions of other consumers can't be seen.",
        lambda consumer: consumer.totals.devices_in_two_partitions,
    ),
    Metric(
        "stepstream_windows_opened_total",
        "counter",
        "Windows started: of new devices, of devices that were idle, and after gaps.",
        lambda consumer: consumer.processor.counters.windows_opened,
    ),
    Metric(
        "stepstream_events_total",
        "counter",
        "Step events added to the outbox.",
        lambda consumer: consumer.totals.events,
    ),
    Metric(
        "stepstream_summaries_total",
        "counter",
        "Records of minutes and walks added to the outbox.",
        by(("minute", "walk"), lambda consumer, kind: getattr(consumer.totals, f"{kind}s")),
        {"kind": "`minute`, `walk`"},
    ),
    Metric(
        "stepstream_dead_letters_total",
        "counter",
        "Messages that became dead letters.",
        by(ErrorCode, lambda consumer, code: consumer.totals.dead_letters[code]),
        {"error": "value of the dead letter's `stepstream-error` header"},
    ),
    Metric(
        "stepstream_end_to_end_reading_seconds",
        "histogram",
        "Time from a reading, by its device's clock, to the commit of its message; measured for "
        "the newest reading of up to 64 messages of each poll and partition, which count for all.",
        lambda consumer: consumer.totals.reading_latency_s,
    ),
    Metric(
        "stepstream_end_to_end_broker_seconds",
        "histogram",
        "Time from a message's record time to its commit; measured for the same messages.",
        lambda consumer: consumer.totals.broker_latency_s,
    ),
    Metric(
        "stepstream_event_lateness_seconds",
        "histogram",
        "Time from the record time of the message that completed a step to the commit of its "
        "event; of every event.",
        lambda consumer: consumer.totals.event_lateness_s,
    ),
    Metric(
        "stepstream_polls_total",
        "counter",
        "Polls that consumed messages.",
        lambda consumer: consumer.totals.polls,
    ),
    Metric(
        "stepstream_batch_messages",
        "histogram",
        "Messages in a poll.",
        lambda consumer: consumer.totals.batch_messages,
    ),
    Metric(
        "stepstream_batch_windows",
        "histogram",
        "Windows that the model predicts together.",
        lambda consumer: consumer.totals.batch_windows,
    ),
    Metric(
        "stepstream_inference_seconds",
        "histogram",
        "Time of one run of the model, over the windows that are due together.",
        lambda consumer: consumer.totals.inference_s,
    ),
    Metric(
        "stepstream_processing_seconds_total",
        "counter",
        "Time that messages need from the poll to the outbox; its rate is the share of the time "
        "for which the loop is busy.",
        lambda consumer: consumer.totals.processing_s,
    ),
    Metric(
        "stepstream_stage_seconds_total",
        "counter",
        "The same time by part of the work.",
        by(STAGES, lambda consumer, stage: consumer.totals.stage_s.get(stage, 0.0)),
        {"stage": ", ".join(f"`{stage}`" for stage in STAGES)},
    ),
    Metric(
        "stepstream_commits_total",
        "counter",
        "Commits that succeeded.",
        lambda consumer: consumer.totals.commits,
    ),
    Metric(
        "stepstream_commit_aborts_total",
        "counter",
        "Commits that failed and were repeated.",
        lambda consumer: consumer.totals.aborts,
    ),
    Metric(
        "stepstream_commit_seconds",
        "histogram",
        "Time of a commit, successful or not.",
        lambda consumer: consumer.totals.commit_s,
    ),
    Metric(
        "stepstream_outbox_records",
        "gauge",
        "Records that wait to be published.",
        lambda consumer: consumer.commits.records,
    ),
    Metric(
        "stepstream_outbox_bytes",
        "gauge",
        "Bytes of these records.",
        lambda consumer: consumer.commits.size,
    ),
    Metric(
        "stepstream_uncommitted_seconds",
        "gauge",
        "Time for which the oldest results have not been committed; below a second at most times.",
        lambda consumer: consumer.commits.uncommitted_s,
    ),
    Metric(
        "stepstream_reading_paused",
        "gauge",
        "1 while reading is paused because too many results wait to be published.",
        lambda consumer: consumer.flow.is_backpressured,
    ),
)
