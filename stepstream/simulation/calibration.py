"""What a reading costs on this machine: the real consumer processes a backlog of a mock broker.

The broker, librdkafka's own, runs in a second process, so that the CPU time of this one is that of
a consumer and its Kafka client.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Producer

from stepstream.detection import Model, default_model_path
from stepstream.errors import StreamError
from stepstream.settings import KafkaSettings, ProcessingSettings, Settings, TopicSettings
from stepstream.simulation.demo import MOCK_PROPERTIES, MockConnections
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from stepstream.streaming.consumer import Consumer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from stepstream.settings import ModelSettings

__all__ = ["BATCHES", "Calibration", "Work", "calibrate", "work_off"]

logger = logging.getLogger(__name__)

BATCHES = (1, 50)
"""Readings in a message of the two runs; they differ by the cost of a message."""
WALKERS = 10
COPIES = 20
"""Devices for each simulated walker: the same readings under other ids, which is cheaper."""
RATE_HZ = 80.0
SECONDS = {1: 12.0, 50: 36.0}
"""Length of the backlogs; the mock broker drops what exceeds 5 MiB a partition, compressed."""
FILLED_S = 2.5
"""Length of another backlog, to be subtracted: the start, and windows that aren't full yet."""
START_TIMEOUT_S = 120.0
PROGRESS_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Calibration:
    """What work costs on this machine.

    Attributes
    ----------
    message_us, reading_us
        CPU time of a message, independent of its content, and of each reading.
    reading_bytes, message_bytes
        Size of a reading within a batch, and of a message without its readings, as JSON.
    """

    message_us: float
    reading_us: float
    reading_bytes: float
    message_bytes: float

    def cost_us(self, batch: int) -> float:
        """CPU time of a reading that comes with ``batch - 1`` others."""
        return self.message_us / batch + self.reading_us


class Work(NamedTuple):
    """A consumer's run on a backlog: messages, readings, their bytes, seconds of CPU."""

    messages: int
    readings: int
    size: int
    cpu_s: float


def calibrate(settings: ModelSettings) -> Calibration:
    """Measure the consumer with single readings and with batches; this needs some seconds.

    Parameters
    ----------
    settings
        The network.

    Raises
    ------
    StreamError
        The mock broker or the consumer makes no progress.
    """
    model = Model(settings.path or default_model_path(), settings.threads)
    costs_us, sizes = [], []
    for batch in BATCHES:
        short, long = (work_off(model, batch, length_s) for length_s in (FILLED_S, SECONDS[batch]))
        readings = long.readings - short.readings
        costs_us.append((long.cpu_s - short.cpu_s) / readings * 1e6)
        sizes.append(long.size / long.messages)
    few, many = BATCHES
    # The cost of a reading is message / batch + reading; two points give both. Sizes likewise.
    message_us = max(0.0, (costs_us[0] - costs_us[1]) / (1 / few - 1 / many))
    reading_bytes = (sizes[1] - sizes[0]) / (many - few)
    return Calibration(
        message_us=message_us,
        reading_us=max(0.0, costs_us[0] - message_us / few),
        reading_bytes=reading_bytes,
        message_bytes=sizes[0] - few * reading_bytes,
    )


def work_off(model: Model, batch: int, seconds: float) -> Work:
    """Let a consumer process a backlog of ``seconds`` of input."""
    context = multiprocessing.get_context("spawn")
    own, other = context.Pipe()
    broker = context.Process(target=_serve, args=(other, batch, seconds), daemon=True)
    broker.start()
    other.close()
    try:
        if not own.poll(START_TIMEOUT_S):
            raise StreamError("the mock broker doesn't start")
        bootstrap, messages_, readings, size = own.recv()
        cpu_s = _consume(model, bootstrap, messages_)
    except EOFError:
        raise StreamError("the mock broker ended early") from None
    finally:
        own.close()
        broker.join(PROGRESS_TIMEOUT_S)
        broker.kill()
    return Work(messages_, readings, size, cpu_s)


def _serve(parent: Connection, batch: int, seconds: float) -> None:
    """Run a broker with a backlog, in a process of its own, until the parent ends."""
    mock = Producer(
        {"test.mock.num.brokers": 1, "compression.type": "lz4", "linger.ms": 20}, logger=logger
    )
    topics = TopicSettings()
    for topic in (*topics.readings, topics.events, topics.state):
        mock.list_topics(topic, timeout=START_TIMEOUT_S)
    count, size = 0, 0
    for key, value in _messages(batch, seconds):
        mock.produce(topics.readings[0], value, key)
        mock.poll(0)
        count += 1
        size += len(key) + len(value)
    if mock.flush(START_TIMEOUT_S):
        raise StreamError("the mock broker doesn't accept messages")
    brokers = mock.list_topics(timeout=START_TIMEOUT_S).brokers.values()
    bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    readings = round(WALKERS * COPIES * RATE_HZ * seconds)
    parent.send((bootstrap, count, readings, size))
    try:
        parent.recv()
    except EOFError:
        return


def _messages(batch: int, seconds: float) -> Iterator[tuple[bytes, bytes]]:
    fleet = [Device(f"{number}", Walker(number, RATE_HZ)) for number in range(WALKERS)]
    for message in messages(fleet, int(time.time() - seconds), seconds, batch=batch):
        own = b'"device_id":"' + message.key + b'"'
        for copy in range(COPIES):
            key = b"device-%s-%d" % (message.key, copy)
            yield key, message.value.replace(own, b'"device_id":"' + key + b'"', 1)


def _consume(model: Model, bootstrap: str, count: int) -> float:
    """CPU seconds in which a consumer starts, processes this many messages, and ends."""
    settings = Settings(
        kafka=KafkaSettings(
            bootstrap_servers=bootstrap, group_id="capacity", properties=MOCK_PROPERTIES
        ),
        topics=TopicSettings(),
        # The cost of the mock broker's transactions says nothing about those of a real broker.
        processing=ProcessingSettings(guarantee="at_least_once"),
    )
    begin_s = time.process_time()
    consumer = Consumer(settings, model, MockConnections(settings))
    failure: list[BaseException] = []

    def run() -> None:
        try:
            consumer.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failure.append(error)

    thread = Thread(target=run, name="consumer", daemon=True)
    thread.start()
    done, progress_s = 0, time.monotonic()
    while done < count and not failure:
        if consumer.totals.messages > done:
            done, progress_s = consumer.totals.messages, time.monotonic()
        elif time.monotonic() - progress_s > PROGRESS_TIMEOUT_S:
            failure.append(StreamError(f"only {done} of {count} messages were processed"))
        time.sleep(0.005)
    consumer.stop()
    thread.join(PROGRESS_TIMEOUT_S)
    if failure:
        raise failure[0]
    return time.process_time() - begin_s
