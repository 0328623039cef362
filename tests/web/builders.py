"""A consumer whose loop turns without a broker, and requests to what it serves."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from stepstream.settings import HttpSettings, KafkaSettings, Settings, TopicSettings
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.connections import Connections
from stepstream.streaming.consumer import Consumer
from stepstream.streaming.partitions import Phase
from stepstream.streaming.positions import Position, Start
from stepstream.streaming.system import System
from stepstream.web.app import make_app
from stepstream.web.server import Server
from tests.detection.builders import TransparentModel
from tests.kafka.broker import free_port
from tests.streaming.records import FakeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message as MessageHeaders

    from confluent_kafka import Consumer as KafkaConsumer
    from confluent_kafka import KafkaError, Message
    from confluent_kafka import Producer as KafkaProducer

    from stepstream.detection import Model
    from stepstream.streaming.partitions import Partition

TOPIC = "sensor-readings"
PARTITIONS = 4
COMMIT_AFTER_S = 10.0
DATA_OF_PAGE = [
    f"/performance/{name}"
    for name in (
        "stream", "activity", "dead-letters", "devices", "group", "timeline", "sample", "signal"
    )
]  # fmt: skip
"""Paths that show data, beside the API's; the last two are those of a worker only."""


class Hour(NamedTuple):
    """A consumer that publishes minutes and walks, and a server of it."""

    consumer: Consumer
    server: Server


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Polled(FakeRecord):
    """A record as `Consumer.consume` gives it."""

    number = 0

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.number


def settings(
    kafka: KafkaSettings | None = None, topics: TopicSettings | None = None, **changes: Any
) -> Settings:
    """Settings without a reachable broker, and without log lines about it."""
    nowhere = f"127.0.0.1:{free_port()}"
    return Settings(
        kafka=kafka or KafkaSettings(bootstrap_servers=nowhere, properties={"log_level": 0}),
        topics=topics or TopicSettings(),
        http=HttpSettings(address="127.0.0.1", port=free_port(), **changes),
    )


class Callbacks(Connections):
    """Real clients, whose callbacks a test can call."""

    on_error: Callable[[KafkaError], None]
    on_statistics: Callable[[str], None]
    on_producer_statistics: Callable[[str], None]

    def consumer(
        self, on_error: Callable[[KafkaError], None], on_statistics: Callable[[str], None]
    ) -> KafkaConsumer:
        self.on_error, self.on_statistics = on_error, on_statistics
        return super().consumer(on_error, on_statistics)

    def producer(self, on_statistics: Callable[[str], None]) -> KafkaProducer:
        self.on_producer_statistics = on_statistics
        return super().producer(on_statistics)


class Clock(System):
    """A clock that a test can advance."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


def own(consumer: Consumer, number: int) -> Partition:
    """Let the consumer own a partition of the readings topic, running."""
    consumer.assignment.add([(TOPIC, number)])
    partition = consumer.assignment.get(TOPIC, number)
    assert partition is not None
    partition.restore_from(Position(TopicIdentity("id", PARTITIONS), -1, "", 0, 0, 0))
    partition.start_at(Start(0, None))
    partition.enter(Phase.RUNNING)
    consumer.flow.start(partition)
    partition.note_end(0, 0)
    return partition


@contextmanager
def turning(consumer: Consumer, devices: int = 0) -> Iterator[None]:
    """Let the loop turn in a thread, while simulated devices walk in partition 0."""
    stop = Event()
    begin_s = time.time()
    fleet = [Device(f"walker-{n}", Walker(n, 80.0)) for n in range(devices)]
    stream = messages(fleet, begin_s, 1e6)
    waiting: list[Any] = []
    offset = 0

    def poll() -> list[Message]:
        nonlocal offset
        stop.wait(0.02)
        polled = []
        while devices:
            message = waiting.pop() if waiting else next(stream)
            if begin_s + message.due_s > time.time():
                waiting.append(message)
                break
            polled.append(Polled(message.key, message.value, offset, int(time.time() * 1000)))
            offset += 1
        return cast("list[Message]", polled)

    consumer.poll = poll  # type: ignore[method-assign]

    def turn() -> None:
        while not stop.is_set():
            consumer.turn()
            # Nobody commits: after a while, the consumer wouldn't be ready.
            if consumer.commits.uncommitted_s > COMMIT_AFTER_S:
                consumer.commits.drop(consumer.assignment.owned)

    thread = Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def consumer_without_broker(
    made_with: Settings | None = None,
    model: Model | None = None,
    connections: Connections | None = None,
    system: System | None = None,
) -> Iterator[Consumer]:
    made_with = made_with or settings()
    consumer = Consumer(made_with, model or TransparentModel(), connections, system)
    try:
        yield consumer
    finally:
        consumer.close()


def serve(made_with: Settings, consumer: Consumer) -> Server:
    """A server of a consumer; it serves once it is entered."""
    return Server(made_with.http, make_app(made_with, consumer))


def request(server: Server, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """GET, or POST of JSON if there is a body; redirections aren't followed."""
    if body is not None:
        headers = {"Content_Type": "application/json", **headers}
    opener = urllib.request.build_opener(_StayHere())
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        body,
        {name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        with opener.open(asked, timeout=15) as answer:
            return Answer(answer.status, _lower(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _lower(error.headers), error.read())


def _lower(headers: MessageHeaders) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None
