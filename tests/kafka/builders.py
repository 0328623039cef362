"""Topics, messages, consumers and processes for tests on a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from stepstream.settings import KafkaSettings, Settings, TopicSettings
from stepstream.streaming.clients import client_properties
from stepstream.streaming.topics import create_topics
from tests.kafka.broker import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEADLINE_S = 60.0
MARKING_S = 2.0
NOT_YET = {
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
"""Errors of a broker that has just started, or whose topics have just been created."""
T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """The first true result of ``condition``, asked again and again."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.02)


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and body of what a consumer answers over HTTP."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@dataclass(frozen=True)
class TopicSet:
    """Topics and a group of one test's own."""

    bootstrap: str
    readings: str
    events: str
    dead_letters: str
    state: str
    group: str
    partitions: int
    access: dict[str, Any] = field(default_factory=dict)
    """Settings with which the test itself reaches the broker."""
    outputs: dict[str, str] = field(default_factory=dict)
    """Topics of minutes, walks and counts, if there are any."""

    @classmethod
    def named(
        cls, bootstrap: str, partitions: int = 4, access: dict[str, Any] | None = None
    ) -> Self:
        """Names that nothing else has; the topics don't exist yet."""
        name = uuid.uuid4().hex[:8]
        return cls(
            bootstrap,
            f"readings-{name}",
            f"events-{name}",
            f"dead-{name}",
            f"state-{name}",
            f"group-{name}",
            partitions,
            access or {},
        )

    @classmethod
    def create(
        cls,
        bootstrap: str,
        partitions: int = 4,
        access: dict[str, Any] | None = None,
        *,
        large_messages: bool = False,
        all_outputs: bool = False,
        own_times: bool = False,
    ) -> Self:
        """Create them; with ``own_times``, messages keep the times that their producers give."""
        topics = cls.named(bootstrap, partitions, access)
        if all_outputs:
            topics = topics.with_outputs("minutes", "walks", "counts")
        settings = topics.settings()
        if own_times:
            # A change of the configuration would take effect some time later.
            kept = {"retention.ms": "-1"}  # however old they are
            new = NewTopic(topics.readings, partitions, 1, config=kept)
            topics._admin.create_topics([new])[topics.readings].result()
        create_topics(settings.kafka, settings.topics)
        if large_messages:
            topics.configure(topics.readings, "max.message.bytes", "4000000")
        return topics

    def with_outputs(self, *kinds: str) -> Self:
        """The same with topics of minutes, walks or counts."""
        return replace(self, outputs={kind: self.events.replace("events", kind) for kind in kinds})

    def into(self, name: str) -> Self:
        """The group, and the topics that it writes, as the setting ``into`` names them."""
        return replace(
            self,
            group=f"{self.group}.{name}",
            events=f"{self.events}.{name}",
            state=f"{self.state}.{name}",
            dead_letters=f"{self.dead_letters}.{name}",
            outputs={kind: f"{topic}.{name}" for kind, topic in self.outputs.items()},
        )

    def configure(self, topic: str, name: str, value: str) -> None:
        """Change a setting of a topic."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result()

    def settings(self, **groups: dict[str, Any]) -> Settings:
        """Settings that name these topics, with more by group."""
        return Settings(
            kafka=KafkaSettings(
                bootstrap_servers=self.bootstrap,
                group_id=self.group,
                **self.access,
                **groups.pop("kafka", {}),
            ),
            topics=TopicSettings(
                readings=(self.readings,),
                events=self.events,
                dead_letters=self.dead_letters,
                state=self.state,
                partitions=self.partitions,
                **self.outputs,
            ),
            **groups,  # type: ignore[arg-type]
        )

    def environment(self) -> dict[str, str]:
        """The same as environment variables."""
        return {
            "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "STEPSTREAM_KAFKA__GROUP_ID": self.group,
            "STEPSTREAM_TOPICS__READINGS": self.readings,
            "STEPSTREAM_TOPICS__EVENTS": self.events,
            "STEPSTREAM_TOPICS__DEAD_LETTERS": self.dead_letters,
            "STEPSTREAM_TOPICS__STATE": self.state,
            "STEPSTREAM_HTTP__PORT": "0",
            **{f"STEPSTREAM_TOPICS__{kind.upper()}": name for kind, name in self.outputs.items()},
        }

    def produce(
        self,
        messages: Iterable[
            tuple[str | bytes | None, bytes | None] | tuple[str | bytes | None, bytes | None, int]
        ],
        partitioner: str = "murmur2_random",
    ) -> None:
        """Send keys, values and perhaps record times to the readings topic.

        All are acknowledged on return. Times are milliseconds since the epoch.
        """
        producer = Producer(
            {
                **self._client,
                "partitioner": partitioner,
                "message.max.bytes": 4_000_000,
                "queue.buffering.max.messages": 1_000_000,
                "linger.ms": 20,
            }
        )
        failures: list[Any] = []

        def delivered(error: Any, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        for key, value, *time_ms in messages:
            while True:
                try:
                    producer.produce(
                        self.readings,
                        value,
                        key,
                        timestamp=time_ms[0] if time_ms else 0,
                        on_delivery=delivered,
                    )
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
            producer.poll(0)
        assert producer.flush(DEADLINE_S) == 0
        assert not failures, failures[:3]

    def end_offsets(self, topic: str, isolation: str = "read_committed") -> dict[int, int]:
        """Ends of the partitions; of what is committed, that is before open transactions."""
        return self._ask(
            f"end of {topic}",
            lambda consumer: {
                p: consumer.get_watermark_offsets(TopicPartition(topic, p), DEADLINE_S)[1]
                for p in range(self.partitions)
            },
            isolation,
        )

    def committed(self) -> dict[int, int]:
        """Committed offsets of the group; partitions without one are left out."""
        asked = [TopicPartition(self.readings, p) for p in range(self.partitions)]
        found = self._ask("committed offsets", lambda c: c.committed(asked, DEADLINE_S))
        return {tp.partition: tp.offset for tp in found if tp.offset >= 0}

    def committed_in(self, topics: Iterable[str]) -> dict[str, int]:
        """Committed offsets of the group in topics of one partition."""
        asked = [TopicPartition(topic, 0) for topic in topics]
        found = self._ask("committed offsets", lambda c: c.committed(asked, DEADLINE_S))
        return {tp.topic: tp.offset for tp in found}

    def _ask(self, what: str, ask: Callable[[Consumer], T], isolation: str = "read_committed") -> T:
        """An answer from a broker that may not know its topics or groups yet, or again."""
        consumer = Consumer({**self._client, "group.id": self.group, "isolation.level": isolation})

        def answer() -> tuple[T] | None:
            try:
                return (ask(consumer),)
            except KafkaException as error:
                if error.args[0].code() not in NOT_YET:
                    raise
                return None

        try:
            return wait_until(what, answer)[0]
        finally:
            consumer.close()

    def wait_consumed(self, deadline_s: float = DEADLINE_S) -> None:
        """Until all readings that are there now are committed."""
        ends = {p: end for p, end in self.end_offsets(self.readings).items() if end > 0}

        def consumed() -> bool:
            committed = self.committed()
            return all(committed.get(p, 0) >= end for p, end in ends.items())

        wait_until(f"{self.readings} committed up to {ends}", consumed, deadline_s)

    def read(self, topic: str) -> list[Message]:
        """All committed messages that are in a topic now, partition by partition.

        The broker answers a commit before every partition has the marker. This waits for the
        markers, but not for a transaction that somebody left open.
        """
        with suppress(AssertionError):
            wait_until(
                f"commits marked in {topic}",
                lambda: self.end_offsets(topic) == self.end_offsets(topic, "read_uncommitted"),
                MARKING_S,
            )
        consumer = Consumer(
            {
                **self._client,
                "group.id": f"read-{uuid.uuid4().hex[:8]}",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.assign([TopicPartition(topic, p, 0) for p in range(self.partitions)])
        messages: list[Message] = []
        ended: set[int | None] = set()
        end = time.monotonic() + DEADLINE_S
        try:
            while len(ended) < self.partitions:
                assert time.monotonic() < end, f"{topic} can't be read to its end"
                for message in consumer.consume(10_000, 0.05):
                    if message.error() is None:
                        messages.append(message)
                    else:
                        ended.add(message.partition())
        finally:
            consumer.close()
        return messages

    def read_events(self) -> list[dict[str, Any]]:
        return self.read_values(self.events)

    def read_values(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(message.value() or b"") for message in self.read(topic)]

    def delete(self) -> None:
        """Remove the topics, and wait for it."""
        for future in self._admin.delete_topics(
            [self.readings, self.events, self.dead_letters, self.state, *self.outputs.values()]
        ).values():
            future.result()

    def describe_group(self) -> Any:
        return self._admin.describe_consumer_groups([self.group])[self.group].result()

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(self._client)

    @property
    def _client(self) -> dict[str, Any]:
        return client_properties(self.settings().kafka)


SHOWN_CHARS = 8_000
"""Of a process's log, where a test has failed."""


class RunProcess:
    """``stepstream run`` in a process of its own; what it writes goes to a file."""

    program: ClassVar[tuple[str, ...]] = ("stepstream", "run")
    """The module that Python runs, and its arguments."""

    def __init__(
        self, topics: TopicSet, folder: Path, name: str = "run", **more: str | None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        given = {
            **os.environ,
            **topics.environment(),
            "STEPSTREAM_KAFKA__TRANSACTIONAL_ID": f"{topics.group}-{name}",
            **more,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.program],
                env={name: value for name, value in given.items() if value is not None},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel only
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_for_log(self, text: str) -> None:
        def written() -> bool:
            assert self.is_alive, self.log.read_text()
            return text in self.log.read_text()

        wait_until(f"{text!r} in {self.log.name}", written)

    @property
    def exit_code(self) -> int | None:
        """Nothing while it runs; less than 0 if a signal ended it."""
        return self._process.poll()

    @property
    def peak_mib(self) -> float:
        """Most memory that was resident."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024

    @property
    def is_stopped(self) -> bool:
        """Whether it was sent SIGSTOP."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def terminate(self, deadline_s: float = DEADLINE_S) -> int:
        """SIGTERM; its exit code."""
        self._process.terminate()
        return self._process.wait(deadline_s)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive:
            self.kill()
        # pytest shows it if the test has failed.
        sys.stdout.write(
            f"{self.log.name}:\n{self.log.read_text(errors='replace')[-SHOWN_CHARS:]}\n"
        )


def run_command(
    topics: TopicSet, folder: Path, *arguments: str, code: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run another of stepstream's commands, or code, to its end; what it prints."""
    return subprocess.run(
        [sys.executable, *(("-c", code) if code else ("-m", "stepstream", *arguments))],
        env={**os.environ, **topics.environment(), **more},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
        preexec_fn=die_with_parent,
    )
