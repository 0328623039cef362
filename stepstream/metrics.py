"""Every metric, in one closed list; values are read when they are scraped, never in the loop."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from stepstream import __version__
from stepstream.inputs import ErrorCode
from stepstream.memory_limit import memory_limit_bytes
from stepstream.metric_readers import (
    by,
    by_client,
    by_partition,
    lag_s,
    model,
    phases,
    starting_s,
)
from stepstream.streaming.totals import STAGES, Histogram

if TYPE_CHECKING:
    from stepstream.streaming.consumer import Consumer

__all__ = ["METRICS", "PROCESS_METRICS", "Labelled", "Labels", "Metric"]

Labelled: TypeAlias = Mapping[tuple[str, ...], float]
Labels: TypeAlias = Mapping[str, str]
Reader: TypeAlias = "Callable[[Consumer], Labelled]"
Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

REBALANCES = ("assigned", "revoked", "lost")


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name
        Its name, as it is written in queries; a counter's ends with ``_total``.
    kind
        What Prometheus calls its type; ``info`` is a gauge that is always 1.
    text
        What it counts.
    read
        Its value now; with labels, a value for each of their values.
    labels
        Names of its labels, with what they can be.
    """

    name: str
    kind: Kind
    text: str
    read: Callable[[Consumer], float | Histogram | Labelled | Labels]
    labels: Mapping[str, str] | None = None


_PARTITION = {"topic": "topic of readings", "partition": "partition that this consumer owns"}
_CLIENT = {"client": "`consumer` or `producer`"}

METRICS = (
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
        "Pauses of over 250 ms in a device's readings, in which the movement before them went on.",
        lambda consumer: consumer.processor.counters.bridged_gaps,
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
    Metric(
        "stepstream_lag_messages",
        "gauge",
        "Offsets up to the last stable one that are not yet processed; 0 if everything that can be "
        "read is processed, also if the partition ends with transaction markers.",
        by_partition(lambda partition: partition.lag_messages),
        _PARTITION,
    ),
    Metric(
        "stepstream_lag_seconds",
        "gauge",
        "The same lag as a time: since the record time of the last message processed, or since "
        "nothing was left to process, whichever is later; 0 if nothing is left.",
        by_partition(lag_s),
        _PARTITION,
    ),
    Metric(
        "stepstream_partitions",
        "gauge",
        "Input partitions that this consumer owns.",
        phases,
        {
            "phase": "`assigned`, `restoring` (the ledger), `starting`, `replaying` (windows) or "
            "`running`"
        },
    ),
    Metric(
        "stepstream_held_partitions",
        "gauge",
        "Input partitions that are paused because too many of their messages are dead letters.",
        lambda consumer: sum(partition.is_held for partition in consumer.assignment.owned),
    ),
    Metric(
        "stepstream_rebalances_total",
        "counter",
        "Assignments, revocations and losses of partitions.",
        by(REBALANCES, lambda consumer, kind: consumer.totals.rebalances[kind]),
        {"kind": ", ".join(f"`{kind}`" for kind in REBALANCES)},
    ),
    Metric(
        "stepstream_partition_start_seconds",
        "histogram",
        "Time from a partition's assignment until it runs: restoring the ledger, and replay.",
        lambda consumer: consumer.totals.start_s,
    ),
    Metric(
        "stepstream_partition_starting_seconds",
        "gauge",
        "Time since the oldest assignment of a partition that doesn't run yet; 0 if all run.",
        starting_s,
    ),
    Metric(
        "stepstream_ledger_remaining_offsets",
        "gauge",
        "Offsets of the state topic that are still to be read for partitions that are restored.",
        lambda consumer: consumer.ledger_remaining,
    ),
    Metric(
        "stepstream_ledger_devices",
        "gauge",
        "Devices whose steps are counted.",
        lambda consumer: sum(len(partition.ledger) for partition in consumer.assignment.owned),
    ),
    Metric(
        "stepstream_replay_remaining_messages",
        "gauge",
        "Messages that are still to be read again before partitions run.",
        lambda consumer: sum(
            max(0, partition.publish_from - partition.next_offset)
            for partition in consumer.assignment.owned
        ),
    ),
    Metric(
        "stepstream_replayed_messages_total",
        "counter",
        "Messages read again to rebuild windows after a restart or a rebalance.",
        lambda consumer: consumer.totals.replayed,
    ),
    Metric(
        "stepstream_devices",
        "gauge",
        "Devices with a window.",
        lambda consumer: consumer.processor.detector.device_count,
    ),
    Metric(
        "stepstream_ready",
        "gauge",
        "1 if the consumer is ready, as in `/readyz`.",
        lambda consumer: consumer.health.is_ready,
    ),
    Metric(
        "stepstream_last_turn_age_seconds",
        "gauge",
        "Time since the last turn of the loop, which turns many times a second, also without "
        "messages.",
        lambda consumer: consumer.last_turn_age_s,
    ),
    Metric(
        "stepstream_memory_limit_bytes",
        "gauge",
        "Memory that the container may use; NaN if nothing limits it.",
        lambda _: memory_limit_bytes(),
    ),
    Metric(
        "stepstream_kafka_connections",
        "gauge",
        "Connections to brokers that are up.",
        by_client(lambda statistics: statistics.connections),
        _CLIENT,
    ),
    Metric(
        "stepstream_kafka_disconnects_total",
        "counter",
        "Connections to brokers that ended.",
        by_client(lambda statistics: statistics.disconnects),
        _CLIENT,
    ),
    Metric(
        "stepstream_kafka_request_errors_total",
        "counter",
        "Requests that couldn't be sent, answers that couldn't be read, and timeouts.",
        by_client(lambda statistics: statistics.errors),
        _CLIENT,
    ),
    Metric(
        "stepstream_kafka_round_trip_seconds",
        "gauge",
        "Round trip of requests, 99th percentile of the last second at the slowest broker; for the "
        "consumer it includes the time that the broker waits for messages.",
        by_client(lambda statistics: statistics.round_trip_s),
        _CLIENT,
    ),
    Metric(
        "stepstream_kafka_throttle_seconds",
        "gauge",
        "Time for which brokers throttled requests, average of the last second at the strictest "
        "broker.",
        by_client(lambda statistics: statistics.throttle_s),
        _CLIENT,
    ),
    Metric(
        "stepstream_kafka_sent_bytes_total",
        "counter",
        "Bytes sent to brokers.",
        by_client(lambda statistics: statistics.sent_bytes),
        _CLIENT,
    ),
    Metric(
        "stepstream_kafka_received_bytes_total",
        "counter",
        "Bytes received from brokers.",
        by_client(lambda statistics: statistics.received_bytes),
        _CLIENT,
    ),
    Metric(
        "stepstream_model_info",
        "info",
        "The model.",
        model,
        {"model": "name and version, as in events", "name": "", "version": ""},
    ),
    Metric(
        "stepstream_build_info",
        "info",
        "This program.",
        lambda _: {"version": __version__, "python": platform.python_version()},
        {"version": "of stepstream", "python": "version of Python"},
    ),
)

PROCESS_METRICS = {
    "process_cpu_seconds_total": "CPU time, user and system.",
    "process_resident_memory_bytes": "Resident memory.",
    "process_virtual_memory_bytes": "Virtual memory.",
    "process_start_time_seconds": "When the process began, seconds since the epoch.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "Most file descriptors that may be open.",
    "python_info": "The interpreter.",
}
"""What prometheus-client reports for any process on Linux."""
