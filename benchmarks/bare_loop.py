"""The minimum of a consumer: consume, parse, commit offsets in transactions."""

from __future__ import annotations

import os
import signal
import time

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

COMMIT_INTERVAL_S = 0.1


def main() -> None:
    bootstrap = os.environ["STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS"]
    group = os.environ["STEPSTREAM_KAFKA__GROUP_ID"]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 16_384,
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": group})
    producer.init_transactions()
    consumer.subscribe([os.environ["STEPSTREAM_TOPICS__READINGS"]])
    offsets: dict[int, int] = {}
    committed_s = time.monotonic()
    topic = os.environ["STEPSTREAM_TOPICS__READINGS"]
    while not stopping:
        for message in consumer.consume(10_000, 0.05):
            if message.error() is None:
                orjson.loads(message.value() or b"")
                offsets[message.partition() or 0] = (message.offset() or 0) + 1
        if offsets and time.monotonic() - committed_s >= COMMIT_INTERVAL_S:
            producer.begin_transaction()
            producer.send_offsets_to_transaction(
                [TopicPartition(topic, p, o) for p, o in offsets.items()],
                consumer.consumer_group_metadata(),
            )
            producer.commit_transaction()
            offsets.clear()
            committed_s = time.monotonic()
    consumer.close()


if __name__ == "__main__":
    main()
