"""Replay of dead letters: they are published again to where they came from."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from stepstream.errors import StreamError
from stepstream.outputs import read_reason
from stepstream.streaming.clients import (
    ALWAYS_CONNECTED,
    CONSUMER_ONLY,
    PRODUCER_ONLY,
    client_properties,
    explain_kafka_errors,
    repeat,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message

    from stepstream.settings import KafkaSettings, TopicSettings

__all__ = ["DeadLetterReplay", "Replayed", "Selection"]

logger = logging.getLogger(__name__)

HEADERS = "stepstream-"
AT_ONCE = 100
"""Dead letters in one transaction; each may have almost 1 MB."""
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Selection:
    """Which dead letters to replay.

    Attributes
    ----------
    codes
        Values of their ``stepstream-error`` header; empty for all.
    partitions
        Partitions that they came from; empty for all.
    since_ms, until_ms
        When they became dead letters, milliseconds since the epoch: from the first, before the
        second.
    """

    codes: frozenset[str] = frozenset()
    partitions: frozenset[int] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None

    def selects(self, letter: Letter) -> bool:
        """Whether a dead letter is one of them."""
        return (
            (not self.codes or letter.code in self.codes)
            and (not self.partitions or letter.partition in self.partitions)
            and (self.since_ms is None or letter.published_ms >= self.since_ms)
            and (self.until_ms is None or letter.published_ms < self.until_ms)
        )

    def __str__(self) -> str:
        """A short hash, the same for the same selection."""
        parts = (sorted(self.codes), sorted(self.partitions), self.since_ms, self.until_ms)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


class Letter(NamedTuple):
    """A dead letter, with the message that it was made from."""

    code: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]
    timestamp_ms: int
    published_ms: int
    is_truncated: bool

    @classmethod
    def read(cls, message: Message) -> Self | None:
        """The dead letter in a message; None if stepstream didn't write it."""
        headers: Any = message.headers() or []
        reason = read_reason(headers)
        if reason is None:
            return None
        return cls(
            reason.code,
            reason.topic,
            reason.partition,
            message.key(),
            message.value(),
            [(n, v) for n, v in headers if not n.startswith(HEADERS)],
            reason.timestamp_ms,
            message.timestamp()[1],
            reason.is_truncated,
        )


@dataclass
class Replayed:
    """What a replay did with the dead letters.

    Attributes
    ----------
    looked_at
        All that were read.
    sent
        Those that were published again, by error code and by the partition they came from.
    left_out
        Those that were selected but can't be published again, by reason.
    """

    looked_at: int = 0
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


class DeadLetterReplay:
    """Publishes dead letters again, each once for a selection, also after interruptions.

    A consumer group that is named after the selection has the position. Messages and offsets are
    committed in one transaction.

    Parameters
    ----------
    kafka, topics
        The brokers and the topics.
    selection
        Which dead letters.
    from_start
        Begin at the first dead letter, even if some were replayed before.
    dry_run
        Count, but publish nothing.

    Raises
    ------
    StreamError
        A setting of the Kafka client is wrong, or there is no such topic.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicSettings,
        selection: Selection,
        *,
        from_start: bool = False,
        dry_run: bool = False,
    ) -> None:
        self._topics = topics
        self._selection = selection
        self._from_start = from_start
        self.group = f"{kafka.group_id}.replay-dead-letters.{selection}"
        self.result = Replayed()
        self._producer: Producer | None = None
        with explain_kafka_errors("kafka settings"):
            self._consumer = Consumer(
                {
                    **client_properties(kafka, PRODUCER_ONLY),
                    "group.id": self.group,
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "queued.max.messages.kbytes": 16_384,
                }
            )
            if not dry_run:
                self._producer = Producer(
                    {
                        **client_properties(kafka, CONSUMER_ONLY),
                        **ALWAYS_CONNECTED,
                        "transactional.id": self.group,
                        "compression.type": "lz4",
                    },
                    logger=logger,
                )

    def run(self, limit: int | None, on_progress: Callable[[int, int], None]) -> None:
        """Replay the dead letters that exist now, or up to ``limit`` of them.

        Parameters
        ----------
        limit
            Most messages to publish.
        on_progress
            Called with the number of dead letters that were read, and of all that there are.

        Raises
        ------
        StreamError
            Kafka refused something. What was published is committed; another call continues there.
        """
        with explain_kafka_errors(f"can't continue with {self._topics.dead_letters}"):
            try:
                self._run(limit, on_progress)
            finally:
                self._consumer.close()

    def _run(self, limit: int | None, on_progress: Callable[[int, int], None]) -> None:
        if self._producer is not None:
            self._producer.init_transactions(TIMEOUT_S)
        counts = self._partition_counts()
        open_partitions = self._assign(counts.get(self._topics.dead_letters, 0))
        total = sum(open_partitions.values())
        while open_partitions and (limit is None or self.result.sent.total() < limit):
            messages = self._consumer.consume(AT_ONCE, 1.0)
            letters = []
            for message in messages:
                error = message.error()
                if error is None:
                    letters.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    open_partitions.pop(message.partition(), None)
                else:
                    raise KafkaException(error)
            self._send(letters, limit, counts)
            on_progress(self.result.looked_at, total)

    def _partition_counts(self) -> dict[str, int]:
        found = self._consumer.list_topics(timeout=TIMEOUT_S).topics
        return {name: len(topic.partitions) for name, topic in found.items()}

    def _assign(self, count: int) -> dict[int | None, int]:
        """Begin where the last run ended; partitions that have dead letters, and how many."""
        name = self._topics.dead_letters
        if not count:
            raise StreamError(f"topic {name} is missing")
        partitions = [TopicPartition(name, number) for number in range(count)]
        begin = self._consumer.committed(partitions, TIMEOUT_S)
        waiting: dict[int | None, int] = {}
        for tp in begin:
            first, end = self._consumer.get_watermark_offsets(tp, TIMEOUT_S)
            if tp.offset == OFFSET_INVALID or self._from_start or tp.offset < first:
                tp.offset = OFFSET_BEGINNING
            ahead = end - (first if tp.offset < 0 else tp.offset)
            if ahead > 0:
                waiting[tp.partition] = ahead
        self._consumer.assign([tp for tp in begin if tp.partition in waiting])
        return waiting

    def _send(self, messages: list[Message], limit: int | None, counts: dict[str, int]) -> None:
        """Publish a part, in one transaction with its offsets."""
        chosen: list[Letter] = []
        offsets: dict[int | None, int] = {}
        looked_at = 0
        room = None if limit is None else limit - self.result.sent.total()
        left_out: Counter[str] = Counter()
        for message in messages:
            if room is not None and len(chosen) >= room:
                break
            looked_at += 1
            offsets[message.partition()] = (message.offset() or 0) + 1
            letter = Letter.read(message)
            if letter is None:
                left_out["not written by stepstream"] += 1
            elif self._selection.selects(letter):
                obstacle = self._obstacle(letter, counts)
                if obstacle:
                    left_out[obstacle] += 1
                else:
                    chosen.append(letter)
        if offsets and self._producer is not None:
            self._commit(self._producer, chosen, offsets)
        self.result.looked_at += looked_at
        self.result.left_out += left_out
        self.result.sent.update((letter.code, letter.partition) for letter in chosen)

    def _obstacle(self, letter: Letter, counts: dict[str, int]) -> str:
        if letter.is_truncated:
            return "cut"
        if not self._topics.reads(letter.topic):
            return "from another topic"
        if letter.partition >= counts.get(letter.topic, 0):
            return "their partition doesn't exist"
        return ""

    def _commit(
        self, producer: Producer, letters: Iterable[Letter], offsets: dict[int | None, int]
    ) -> None:
        name = self._topics.dead_letters
        producer.begin_transaction()
        try:
            for letter in letters:
                producer.produce(
                    letter.topic,
                    letter.value,
                    letter.key,
                    partition=letter.partition,
                    timestamp=letter.timestamp_ms,
                    headers=letter.headers,
                )
            producer.send_offsets_to_transaction(
                [TopicPartition(name, number or 0, offset) for number, offset in offsets.items()],
                self._consumer.consumer_group_metadata(),
                TIMEOUT_S,
            )
            repeat(producer.commit_transaction)
        except (KafkaException, BufferError) as error:
            if isinstance(error, BufferError) or error.args[0].txn_requires_abort():
                repeat(producer.abort_transaction)
            raise
