"""Moves step counts to where their devices are after partitions were added to a readings topic.

Partition p of the state topic holds the devices of input partition p. With more partitions, the
same key has another partition, and the counts have to follow::

                       state-1      state-7      the group's offsets
    before             phone: 100   -            0 to 3, their metadata says: of 4 partitions
    first transaction                            0 to 11, of 4
    others             tombstone    phone: 100   0 to 11, of 4: refused, `changed-partitions`
    last transaction                             0 to 11, of 12

A thousand devices are moved in each transaction. Whenever this ends, each count is in one place,
consumers are refused, and another call goes on. An open transaction of a call that died is aborted
by the next call, which has the same transactional id.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from confluent_kafka import Producer, TopicPartition

from stepstream.errors import StreamError, TopicError
from stepstream.inputs import KEY_ENCODERS
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.clients import (
    check_connection,
    explain_kafka_errors,
    producer_properties,
    repeat,
)
from stepstream.streaming.cluster import NO_OFFSET, Committed
from stepstream.streaming.forgetting import COMMAND_KEY
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.partitioning import partition_of
from stepstream.streaming.placement import Found, find_misplaced, merge
from stepstream.streaming.reading import read_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from confluent_kafka import Consumer, Message

    from stepstream.settings import Settings
    from stepstream.streaming.cluster import Cluster, TopicIdentity
    from stepstream.streaming.connections import Connections

    Place = tuple[str, int]
    OnProgress = Callable[[str, int, int], None]

__all__ = ["CountsMove", "Moved"]

logger = logging.getLogger(__name__)

AT_ONCE = 1_000
"""Devices that are moved in one transaction."""
MOST_ASTRAY = 0.2
"""Share of counts whose place nothing explains: by chance, most are explained only by murmur2."""
TIMEOUT_S = 30.0
ASK_AGAIN_S = 0.2
GRACE_S = 3.0
"""Brokers notice a second or two later that a session is over."""
_decode_key = msgspec.json.Decoder(tuple[str, str, str]).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


@dataclass
class Moved:
    """What was done for a topic.

    Attributes
    ----------
    partitions
        How many the topic had when the group last committed, and has now.
    devices
        Devices with a count.
    moved
        Those whose count was moved now.
    unread
        Devices with readings in their old partition that the group hasn't read.
    """

    partitions: tuple[int, int]
    devices: int = 0
    moved: int = 0
    unread: set[bytes] = field(default_factory=set)


class CountsMove:
    """Moves the counts of a group while none of its consumers runs.

    Parameters
    ----------
    settings
        Those of the consumers.
    connections
        Makes the Kafka clients.
    on_progress
        Called with what is being done, how much of it is done, and of how much.
    """

    def __init__(
        self, settings: Settings, connections: Connections, on_progress: OnProgress
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._cluster: Cluster = connections.cluster()
        self._on_progress = on_progress
        self._state = settings.topics.state

    def run(self) -> dict[str, Moved]:
        """Move all counts that are not where their device is.

        Returns
        -------
        dict of str to Moved
            For each readings topic that the group has read.

        Raises
        ------
        StreamError
            Consumers are in the group, or it can't be known where devices are.
        TopicError
            A topic is missing, or the state topic has too few partitions.
        """
        check_connection(self._settings.kafka)
        with explain_kafka_errors("counts can't be moved"):
            topics = self._check_topics()
            kafka = self._settings.kafka
            self._check_group(kafka.session_timeout_ms / 1000 + GRACE_S)
            properties = producer_properties(self._settings)
            properties["transactional.id"] = f"{kafka.group_id}.move-counts"
            properties["transaction.timeout.ms"] = kafka.transaction_timeout_ms
            producer = Producer(properties, logger=logger)
            producer.init_transactions(TIMEOUT_S)
            consumer = self._connections.state_consumer()
            try:
                return self._move(topics, producer, consumer)
            finally:
                consumer.close()

    def _check_topics(self) -> dict[str, TopicIdentity]:
        topics = {
            name: topic.identity
            for name, topic in self._cluster.find_topics(self._settings.topics).items()
        }
        state = self._cluster.identify_topics([self._state]).get(self._state)
        missing = set(self._settings.topics.named) - topics.keys()
        if missing or state is None:
            raise TopicError(f"there is no topic {', '.join(sorted(missing)) or self._state}")
        for name, identity in topics.items():
            if identity.partition_count > state.partition_count:
                raise TopicError(
                    f"topic {name} has {identity.partition_count} partitions, the state topic "
                    f"{self._state} has {state.partition_count}: add partitions to it "
                    f"(kafka-topics.sh --alter --topic {self._state} --partitions "
                    f"{identity.partition_count}), then run this again"
                )
        return topics

    def _check_group(self, wait_s: float = 0.0) -> None:
        """Refuse to go on while consumers are in the group; one that died is, for a while."""
        deadline_s = time.monotonic() + wait_s
        while self._cluster.has_members():
            if time.monotonic() >= deadline_s:
                group = self._settings.kafka.group_id
                raise StreamError(f"consumers are in group {group}: stop all, then run this again")
            self._on_progress("waiting until no consumer is in the group", 0, 1)
            time.sleep(ASK_AGAIN_S)

    def _move(
        self, topics: Mapping[str, TopicIdentity], producer: Producer, consumer: Consumer
    ) -> dict[str, Moved]:
        committed = self._committed(topics)
        done = {
            name: Moved((_count_before(name, identity, committed), identity.partition_count))
            for name, identity in topics.items()
        }
        added = self._added(topics, done, committed)
        self._commit(added, producer, consumer)
        committed |= added
        for name, devices in self._read_state(topics).items():
            done[name].devices = len(devices)
            misplaced = self._misplaced(name, devices, done[name].partitions)
            if misplaced:
                self._note_unread(name, done[name], committed)
                self._move_all(name, misplaced, producer, done[name])
        self._commit(_renewed(topics, committed), producer, consumer)
        return done

    def _committed(self, topics: Mapping[str, TopicIdentity]) -> dict[Place, Committed]:
        places = [
            (name, number)
            for name, identity in topics.items()
            for number in range(identity.partition_count)
        ]
        committed = self._cluster.committed_offsets(places)
        unstable = sorted(set(places) - committed.keys())
        if unstable:
            raise StreamError(
                f"a transaction holds offsets of {unstable[0][0]}-{unstable[0][1]}: run this again "
                "when it is over (kafka.transaction_timeout_ms)"
            )
        return {place: one for place, one in committed.items() if one.offset != NO_OFFSET}

    def _read_state(self, topics: Mapping[str, TopicIdentity]) -> dict[str, dict[str, list[Found]]]:
        """The group's records, by topic and device."""
        count = self._cluster.identify_topics([self._state])[self._state].partition_count
        places = [(self._state, number) for number in range(count)]
        begin = self._cluster.offsets(places, at_end=False)
        end = self._cluster.offsets(places, at_end=True)
        group = self._settings.kafka.group_id
        latest: dict[tuple[str, str], dict[int, Found]] = defaultdict(dict)
        for message in self._read(self._state, begin, end, "reading counts"):
            try:
                its_group, topic, device_id = _decode_key(message.key() or b"")
            except msgspec.MsgspecError:
                continue
            if its_group != group or topic not in topics:
                continue
            records = latest[topic, device_id]
            number, value = message.partition() or 0, message.value()
            if value is None:
                records.pop(number, None)
            else:
                Ledger.read(device_id, value)
                records[number] = Found(number, _decode(value))
        found: dict[str, dict[str, list[Found]]] = {name: {} for name in topics}
        for (topic, device_id), records in latest.items():
            if records:
                found[topic][device_id] = list(records.values())
        return found

    def _misplaced(
        self, name: str, devices: Mapping[str, list[Found]], partitions: tuple[int, int]
    ) -> dict[str, tuple[int, Sequence[Found]]]:
        """Devices with a record where they are not, with their partition.

        Raises
        ------
        StreamError
            It can't be known where devices are.
        """
        if not devices:
            return {}
        given = self._settings.input_of(name)
        if given.device_id != "key" or given.key not in KEY_ENCODERS:
            if partitions[0] == partitions[1]:
                return {}
            self._refuse(
                name,
                f"the device id is not the key (input.device_id is {given.device_id})"
                if given.device_id != "key"
                else "the keys are JSON, which can be written in several ways (input.key)",
            )
        misplaced, astray = find_misplaced(devices, KEY_ENCODERS[given.key], partitions[1])
        if astray > MOST_ASTRAY:
            self._refuse(
                name,
                f"{astray:.0%} of the counts to move are where murmur2 never put their keys (that "
                "is how Java clients and librdkafka's murmur2_random choose partitions), so the "
                "producers choose them in another way",
            )
        return misplaced

    @staticmethod
    def _refuse(name: str, reason: str) -> NoReturn:
        raise StreamError(
            f"topic {name}: {reason}. It can't be known in which partition a device is now, and "
            "its count can't follow. To count devices that moved from 1, add changed-partitions to "
            "processing.accept"
        )

    def _note_unread(self, name: str, moved: Moved, committed: Mapping[Place, Committed]) -> None:
        """Find devices with unread readings in a partition that isn't theirs any more."""
        begin = {place: one.offset for place, one in committed.items() if place[0] == name}
        if not begin:
            return
        now = moved.partitions[1]
        first = self._cluster.offsets(begin, at_end=False)
        end = self._cluster.offsets(begin, at_end=True, stable=True)
        begin = {place: max(first[place], offset) for place, offset in begin.items()}
        for message in self._read(name, begin, end, "looking at unread readings"):
            key = message.key()
            if key and key != COMMAND_KEY and partition_of(key, now) != message.partition():
                moved.unread.add(key)

    def _read(
        self, topic: str, begin: Mapping[Place, int], end: Mapping[Place, int], doing: str
    ) -> Iterator[Message]:
        """Committed messages of a topic from offsets up to others."""
        offsets = {place[1]: (offset, end[place]) for place, offset in begin.items()}
        total = sum(max(0, last - first) for first, last in offsets.values())
        seen = 0
        for messages in read_between(self._settings.kafka, topic, offsets):
            yield from messages
            seen += len(messages)
            self._on_progress(doing, seen, total)

    def _move_all(
        self,
        name: str,
        misplaced: Mapping[str, tuple[int, Sequence[Found]]],
        producer: Producer,
        moved: Moved,
    ) -> None:
        devices = list(misplaced)
        for begin in range(0, len(devices), AT_ONCE):
            some = devices[begin : begin + AT_ONCE]
            self._check_group()
            producer.begin_transaction()
            for device_id in some:
                target, records = misplaced[device_id]
                key = _encode([self._settings.kafka.group_id, name, device_id])
                value = _encode(merge(records, target))
                producer.produce(self._state, value, key, partition=target)
                for found in records:
                    if found.partition != target:
                        producer.produce(self._state, None, key, partition=found.partition)
            repeat(producer.commit_transaction)
            moved.moved += len(some)
            self._on_progress(f"moving counts of {name}", moved.moved, len(devices))

    def _added(
        self,
        topics: Mapping[str, TopicIdentity],
        done: Mapping[str, Moved],
        committed: Mapping[Place, Committed],
    ) -> dict[Place, Committed]:
        """Where the group begins in new partitions: at their start.

        The metadata has the former number of partitions, so that they are refused like the others
        until all counts are moved.
        """
        places = [
            (name, number)
            for name, moved in done.items()
            for number in range(*moved.partitions)
            if (name, number) not in committed
        ]
        first = self._cluster.offsets(places, at_end=False) if places else {}
        added = {}
        for place, offset in first.items():
            topic_id, before = topics[place[0]].topic_id, done[place[0]].partitions[0]
            start = Checkpoint(offset, 0, 0, 0, topic_id, before, 0, offset)
            added[place] = Committed(offset, start.encode())
        return added

    def _commit(
        self, committed: Mapping[Place, Committed], producer: Producer, consumer: Consumer
    ) -> None:
        """Commit offsets in a transaction of their own."""
        if not committed:
            return
        self._check_group()
        producer.begin_transaction()
        producer.send_offsets_to_transaction(
            [TopicPartition(*place, one.offset, one.metadata) for place, one in committed.items()],
            consumer.consumer_group_metadata(),
            TIMEOUT_S,
        )
        repeat(producer.commit_transaction)


def _count_before(name: str, identity: TopicIdentity, committed: Mapping[Place, Committed]) -> int:
    """Partitions that a topic had when the group last committed offsets of all of them."""
    counts = (
        checkpoint.partition_count
        for (topic, _), one in committed.items()
        if topic == name and (checkpoint := Checkpoint.decode(one.metadata))
    )
    # A consumer that ran when partitions were added may have taken new ones already.
    return min(counts, default=identity.partition_count)


def _renewed(
    topics: Mapping[str, TopicIdentity], committed: Mapping[Place, Committed]
) -> dict[Place, Committed]:
    """The offsets whose metadata names another number of partitions than there are, renewed."""
    renewed = {}
    for place, one in committed.items():
        identity, checkpoint = topics[place[0]], Checkpoint.decode(one.metadata)
        if (
            checkpoint is not None
            and checkpoint.topic_id in {"", identity.topic_id}
            and checkpoint.partition_count != identity.partition_count
        ):
            checkpoint = replace(checkpoint, partition_count=identity.partition_count)
            renewed[place] = Committed(one.offset, checkpoint.encode())
    return renewed
