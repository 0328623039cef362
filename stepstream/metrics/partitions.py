"""Partitions: lag, retention, and what they wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.detection.sanity import Doubt
from stepstream.metrics.metric import Metric
from stepstream.metrics.readers import (
    by,
    by_partition,
    doubtful_topics,
    headroom_s,
    lag_s,
    phases,
    starting_s,
    topics,
)
from stepstream.streaming.schema_waits import OUTCOMES

if TYPE_CHECKING:
    from stepstream.streaming.consumer import Consumer

__all__ = ["PARTITIONS"]

REBALANCES = ("assigned", "revoked", "lost")
_PARTITION = {"topic": "topic of readings", "partition": "partition that this consumer owns"}

PARTITIONS: tuple[Metric[Consumer], ...] = (
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
        "nothing was left to process, whichever is later; 0 if nothing is left. It grows while no "
        "broker says what is left.",
        by_partition(lag_s),
        _PARTITION,
    ),
    Metric(
        "stepstream_retention_headroom_seconds",
        "gauge",
        "Time until readings may be deleted unread if nothing more is read; infinite if the topic "
        "keeps everything.",
        headroom_s,
        _PARTITION,
    ),
    Metric(
        "stepstream_partitions",
        "gauge",
        "Input partitions that this consumer owns.",
        phases,
        {
            "phase": "`assigned`, `restoring` (the ledger), `refused` (an abnormal start), "
            "`starting`, `replaying` (windows), `running` or `ended` (of a backfill)"
        },
    ),
    Metric(
        "stepstream_held_partitions",
        "gauge",
        "Input partitions that are paused because too many of their messages are dead letters.",
        lambda consumer: sum(partition.is_held for partition in consumer.assignment.owned),
    ),
    Metric(
        "stepstream_topics",
        "gauge",
        "Topics of readings. Those that match a pattern and can't be read are refused.",
        topics,
        {"state": "`read` or `refused`"},
    ),
    Metric(
        "stepstream_doubtful_topics",
        "gauge",
        "Topics of this consumer whose readings look as if they had another unit or no gravity, or "
        "whose gyroscopes send apart and come too late.",
        by(Doubt, doubtful_topics),
        {"doubt": ", ".join(f"`{doubt}`" for doubt in Doubt)},
    ),
    Metric(
        "stepstream_registry_waiting_partitions",
        "gauge",
        "Input partitions that wait for a schema.",
        lambda consumer: sum(partition.is_waiting for partition in consumer.assignment.owned),
    ),
    Metric(
        "stepstream_registry_requests_total",
        "counter",
        "Requests for schemas. Those that failed are repeated.",
        by(OUTCOMES, lambda consumer, outcome: consumer.schema_waits.requests[outcome]),
        {"outcome": "`found`, `unknown` (no such schema, or one that can't be used) or `failed`"},
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
)
