"""The process, and its Kafka clients."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from stepstream import __version__
from stepstream.memory_limit import memory_limit_bytes
from stepstream.metrics.metric import Metric
from stepstream.metrics.readers import by_client, model
from stepstream.native import decoder_name

if TYPE_CHECKING:
    from stepstream.metrics.readers import Process
    from stepstream.streaming.consumer import Consumer

__all__ = ["OF_SERVER", "PROCESS"]

_CLIENT = {"client": "`consumer` or `producer`"}

_READY: Metric[Process] = Metric(
    "stepstream_ready",
    "gauge",
    "1 if the process is ready, as in `/readyz`.",
    lambda process: process.health.is_ready,
)
_MEMORY_LIMIT: Metric[Process] = Metric(
    "stepstream_memory_limit_bytes",
    "gauge",
    "Memory that the container may use; NaN if nothing limits it.",
    lambda _: memory_limit_bytes(),
)
_MODEL: Metric[Process] = Metric(
    "stepstream_model_info",
    "info",
    "The model.",
    model,
    {"model": "name and version, as in events", "name": "", "version": ""},
)
_BUILD: Metric[Process] = Metric(
    "stepstream_build_info",
    "info",
    "This program.",
    lambda _: {
        "version": __version__,
        "python": platform.python_version(),
        "decoder": decoder_name().partition(",")[0],
    },
    {
        "version": "of stepstream",
        "python": "version of Python",
        "decoder": "`native` if the compiled decoder is installed, else `python`",
    },
)

OF_SERVER = (_READY, _MEMORY_LIMIT, _MODEL, _BUILD)
"""What any process that serves has."""

PROCESS: tuple[Metric[Consumer], ...] = (
    _READY,
    Metric(
        "stepstream_last_turn_age_seconds",
        "gauge",
        "Time since the last turn of the loop, which turns many times a second, also without "
        "messages.",
        lambda consumer: consumer.last_turn_age_s,
    ),
    _MEMORY_LIMIT,
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
    _MODEL,
    _BUILD,
)
