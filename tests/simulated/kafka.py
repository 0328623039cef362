"""As much of Kafka as a consumer needs, in memory: groups, transactions, isolation, fencing."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.clients import producer_properties
from stepstream.streaming.cluster import Committed, FoundTopic, TopicIdentity
from stepstream.streaming.connections import Connections
from stepstream.streaming.holding import release_group
from tests.streaming.records import FakeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stepstream.settings import Settings, TopicSettings
    from tests.simulated.world import World

REPLACED = 0.5
"""Probability that a member which the group dropped isn't told so."""
SESSION_S = 0.6
TRANSACTION_S = 0.8
STATE = "stepstream-state"
GROUP = "stepstream"
FOREIGN_PAUSE_S = 0.04
FETCH_WAIT_S = 0.1
"""A reader that finds nothing for this time gets the event of the partition's end."""
NAME = tuple[str, int]


def error(code: int, **kinds: bool) -> KafkaException:
    return KafkaException(KafkaError(code, "simulated", **kinds))


@dataclass
class Message(FakeRecord):
    """A message for a consumer."""

    message_topic: str = ""
    message_partition: int = 0
    message_error: KafkaError | None = None
    arrival_s: float = 0.0
    """Counts from the world's beginning."""

    def topic(self) -> str:
        return self.message_topic

    def partition(self) -> int:
        return self.message_partition

    def error(self) -> KafkaError | None:
        return self.message_error


@dataclass(eq=False)
class Transaction:
    """What one producer writes at once."""

    begin_s: float
    state: str = "open"
    end_s: float = 0.0
    partitions: set[NAME] = field(default_factory=set)
    offsets: dict[NAME, Committed] = field(default_factory=dict)


@dataclass
class Entry:
    """A record, or the marker that ends a transaction (without a value of its own)."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    transaction: Transaction | None
    time_ms: int
    written_s: float
    is_marker: bool = False

    @property
    def is_committed(self) -> bool:
        return self.transaction is None or self.transaction.state == "committed"

    @property
    def visible_s(self) -> float:
        """When it became stable, so that it could be read."""
        return self.transaction.end_s if self.transaction else self.written_s


@dataclass(eq=False)
class Member:
    """A consumer in the group: ``generation`` is the last one it has heard of."""

    name: str
    last_poll_s: float
    generation: int = -1
    topics: set[str] = field(default_factory=set)
    """What it is subscribed to."""
    owned: set[NAME] = field(default_factory=set)
    has_left: bool = False


class Broker:
    """Topics, one group and its transactions.

    Parameters
    ----------
    world
        Time, and chance.
    readings
        Messages of the input partitions.
    created_s
        When topics are created after the beginning.
    """

    def __init__(
        self,
        world: World,
        readings: dict[NAME, list[Message]],
        created_s: Mapping[str, float] | None = None,
    ) -> None:
        self.world = world
        self.readings = readings
        self._begin_s = world.now_s
        self._created_s = created_s or {}
        self._offsets = {name: [m.offset() for m in part] for name, part in readings.items()}
        self._arrivals = {name: [m.arrival_s for m in part] for name, part in readings.items()}
        self.written: dict[NAME, list[Entry]] = {}
        self.committed: dict[NAME, Committed] = {}
        self.marks: dict[NAME, Committed] = {}
        """What is committed in the group of released partitions."""
        self.members: list[Member] = []
        self.generation = 0
        self.epochs: dict[str, int] = {}
        self.open: dict[str, Transaction] = {}
        self.trouble = 0.0
        """Probability that a call of a client goes wrong."""
        self.went_wrong: set[str] = set()
        self._names = count()

    def goes_wrong(self, what: str) -> bool:
        if self.world.random.random() >= self.trouble:
            return False
        self.went_wrong.add(what)
        return True

    # Groups

    @property
    def topics(self) -> Counter[str]:
        """Readings topics that exist, and their numbers of partitions."""
        now_s = self.world.now_s - self._begin_s
        there = (name for name, _ in self.readings if self._created_s.get(name, 0.0) <= now_s)
        return Counter(there)

    def join(self, topics: set[str]) -> Member:
        member = Member(f"member-{next(self._names)}", self.world.now_s, topics=topics)
        self.members.append(member)
        self.generation += 1
        return member

    def leave(self, member: Member) -> None:
        if not member.has_left:
            member.has_left = True
            member.owned.clear()
            self.members.remove(member)
            self.generation += 1

    def expire(self) -> None:
        """Remove members that are silent, and end transactions that are too slow."""
        for member in list(self.members):
            if self.world.now_s - member.last_poll_s > SESSION_S:
                self.leave(member)
        for name, transaction in list(self.open.items()):
            if self.world.now_s - transaction.begin_s > TRANSACTION_S:
                self.went_wrong.add("transaction timed out")
                self.epochs[name] += 1
                self.end(name, "aborted")

    def target(self, member: Member) -> set[NAME]:
        order = sorted(self.members, key=lambda m: m.name)
        target = set()
        for place, name in enumerate(sorted(self.readings)):
            subscribed = [m for m in order if name[0] in m.topics]
            if subscribed and subscribed[place % len(subscribed)] is member:
                target.add(name)
        return target

    def free(self, names: set[NAME]) -> set[NAME]:
        return names - set().union(*(member.owned for member in self.members))

    def is_current(self, group: tuple[str, int]) -> bool:
        name, generation = group
        if generation < 0:
            # As brokers do: somebody who is in no group may commit for any.
            return True
        return generation == self.generation and any(m.name == name for m in self.members)

    # Transactions

    def register(self, name: str) -> int:
        if name in self.open:
            self.went_wrong.add("open transaction ended by the next owner")
            self.end(name, "aborted")
        self.epochs[name] = self.epochs.get(name, -1) + 1
        return self.epochs[name]

    def transaction(self, name: str) -> Transaction:
        if name not in self.open:
            self.open[name] = Transaction(self.world.now_s)
        return self.open[name]

    def end(self, name: str, state: str) -> None:
        transaction = self.open.pop(name, None)
        if transaction is None:
            return
        transaction.state = state
        transaction.end_s = now_s = self.world.now_s
        for partition in transaction.partitions:
            self.write(partition, Entry(None, None, {}, transaction, 0, now_s, is_marker=True))
        if state == "committed":
            self.commit(transaction.offsets)

    def commit(self, offsets: dict[NAME, Committed]) -> None:
        for name, position in offsets.items():
            before = self.committed.get(name)
            assert before is None or position.offset >= before.offset, f"{name} goes back"
            stays = is_held(position) and before and position.offset == before.offset
            if before is not None and is_held(before) and not stays:
                mark = self.marks.get(name)
                is_marked = mark is not None and mark.offset == before.offset
                assert is_marked, f"{name} goes on, but it is held"
            self.committed[name] = position

    # Logs

    def arrived(self, name: NAME, offset: int) -> list[Message]:
        """Readings from an offset on that are there by now."""
        begin = bisect_left(self._offsets[name], offset)
        end = bisect_right(self._arrivals[name], self.world.now_s - self._begin_s)
        return self.readings[name][begin:end]

    def write(self, name: NAME, entry: Entry) -> None:
        self.written.setdefault(name, []).append(entry)

    def stable_end(self, name: NAME) -> int:
        log = self.written.get(name, [])
        opened = (i for i, e in enumerate(log) if e.transaction and e.transaction.state == "open")
        return next(opened, len(log))

    def read(self, topic: str) -> list[Entry]:
        """Everything committed, partition by partition."""
        return [
            entry
            for name in sorted(self.written)
            if name[0] == topic
            for entry in self.written[name]
            if entry.is_committed and not entry.is_marker
        ]


def is_held(committed: Committed) -> bool:
    """Whether a person has to release a partition of which this is committed."""
    checkpoint = Checkpoint.decode(committed.metadata)
    return checkpoint is not None and checkpoint.is_held


class Cluster:
    """The questions of `stepstream.streaming.cluster.Cluster`, each with a moment before it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def check_access(self) -> list[str]:
        return []

    def check_topics(self) -> list[str]:
        return []

    def _ask(self) -> None:
        self._broker.world.wait()
        if self._broker.goes_wrong("question"):
            raise error(KafkaError._TIMED_OUT)

    def identify_topics(self, topics: Iterable[str]) -> dict[str, TopicIdentity]:
        self._ask()
        counts = self._broker.topics
        counts[STATE] = 1 + max(number for _, number in self._broker.readings)
        return {t: TopicIdentity(f"id-of-{t}", counts[t]) for t in topics if t in counts}

    def find_topics(self, topics: TopicSettings) -> dict[str, FoundTopic]:
        self._ask()
        names = set(filter(topics.reads, self._broker.topics))
        return {name: FoundTopic(found) for name, found in self.identify_topics(names).items()}

    @property
    def group(self) -> str:
        return GROUP

    def committed_offsets(self, names: Iterable[NAME], group: str = GROUP) -> dict[NAME, Committed]:
        self._ask()
        broker = self._broker
        if group == release_group(GROUP):
            return {name: broker.marks.get(name, Committed(-1, "")) for name in names}
        unstable = {name for t in broker.open.values() for name in t.offsets}
        return {
            name: broker.committed.get(name, Committed(-1, ""))
            for name in names
            if name not in unstable
        }

    def offsets(self, names: Iterable[NAME], *, at_end: bool) -> dict[NAME, int]:
        self._ask()
        broker = self._broker
        if not at_end:
            return {name: broker.readings[name][0].offset() for name in names}
        return {
            name: self._end_of_readings(name)
            if name in broker.readings
            else len(broker.written.get(name, []))
            for name in names
        }

    def _end_of_readings(self, name: NAME) -> int:
        there = self._broker.arrived(name, 0)
        return there[-1].offset() + 1 if there else self._broker.readings[name][0].offset()


class Producer:
    """A producer; transactional if its properties say so."""

    def __init__(self, broker: Broker, properties: dict[str, Any]) -> None:
        self._broker = broker
        self._name: str | None = properties.get("transactional.id")
        self._epoch = -1
        self._waiting: list[tuple[NAME, Entry, Callable[[Any, Any], None] | None]] = []
        self._is_broken = False

    def _moment(self, what: str) -> None:
        self._broker.world.wait()
        broker = self._broker
        if self._name is None:
            return
        if self._is_broken or (self._epoch >= 0 and broker.epochs[self._name] != self._epoch):
            self._is_broken = True
            raise error(KafkaError._FENCED, fatal=True)
        if self._epoch >= 0 and broker.goes_wrong(f"{what}: fatal"):
            self._is_broken = True
            raise error(KafkaError._FATAL, fatal=True)

    def init_transactions(self, _timeout_s: float) -> None:
        self._moment("init")
        if self._broker.goes_wrong("init: again"):
            raise error(KafkaError._TIMED_OUT, retriable=True)
        assert self._name is not None
        self._epoch = self._broker.register(self._name)

    def begin_transaction(self) -> None:
        self._moment("begin")

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: Callable[[Any, Any], None] | None = None,
        _on_delivery: None = None,
        _time_ms: int = 0,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        self._moment("produce")
        if self._broker.goes_wrong("produce: full"):
            raise BufferError("Local: Queue full")
        name = (topic, sum(key or b"") % 2 if partition < 0 else partition)
        now_s = self._broker.world.now_s
        entry = Entry(key, value, dict(headers or []), None, round(now_s * 1000), now_s)
        if self._name is None:
            self._waiting.append((name, entry, on_delivery))
            return
        entry.transaction = self._broker.transaction(self._name)
        entry.transaction.partitions.add(name)
        self._broker.write(name, entry)

    def poll(self, timeout_s: float) -> None:
        self._broker.world.wait(timeout_s)

    def purge(self) -> None:
        """What was produced is at the broker already."""

    def flush(self, _timeout_s: float) -> int:
        while self._waiting:
            self._moment("flush")
            name, entry, on_delivery = self._waiting.pop(0)
            self._broker.write(name, entry)
            failure = None
            if self._broker.goes_wrong("flush: not acknowledged"):
                failure = KafkaError(KafkaError._MSG_TIMED_OUT)
            if on_delivery is not None:
                on_delivery(failure, None)
        return 0

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], group: tuple[str, int], _timeout_s: float
    ) -> None:
        self._moment("send offsets")
        if not self._broker.is_current(group) or self._broker.goes_wrong("send offsets: abort"):
            raise error(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)
        assert self._name is not None
        self._broker.transaction(self._name).offsets |= positions(offsets)
        if self._broker.goes_wrong("send offsets: again"):
            raise error(KafkaError._TIMED_OUT, retriable=True)

    def commit_transaction(self, _timeout_s: float) -> None:
        self._moment("commit")
        assert self._name is not None
        self._broker.end(self._name, "committed")
        if self._broker.goes_wrong("commit: again"):
            raise error(KafkaError._TIMED_OUT, retriable=True)
        self._moment("committed")

    def abort_transaction(self, _timeout_s: float) -> None:
        self._moment("abort")
        assert self._name is not None
        self._broker.end(self._name, "aborted")


class Consumer:
    """A member of the group."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._member: Member | None = None
        self._positions: dict[NAME, int] = {}
        self._paused: set[NAME] = set()
        self._topics: set[str] = set()
        self._callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}
        self._is_leaving = self._has_subscribed = False

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self._callbacks = callbacks
        self._topics = set(topics)
        if self._member is not None and not self._member.has_left:
            self._member.topics = self._topics
            self._broker.generation += 1
        self._has_subscribed = True

    def unsubscribe(self) -> None:
        self._is_leaving, self._has_subscribed = True, False

    def list_topics(self, _: str, timeout: float) -> None:
        assert timeout == 0

    def memberid(self) -> str:
        return self._member.name if self._member else ""

    def consumer_group_metadata(self) -> tuple[str, int]:
        return (self.memberid(), self._member.generation if self._member else -1)

    def _call(self, name: str, partitions: Iterable[NAME]) -> None:
        given = [TopicPartition(topic, number) for topic, number in sorted(partitions)]
        if given:
            self._callbacks[name](self, given)

    def _rebalance(self) -> None:
        broker, member = self._broker, self._member
        if member is not None and member.has_left:
            if self._positions and broker.world.random.random() < REPLACED:
                self._claim()
                return
            self._member = member = None
            broker.went_wrong.add("lost")
            self._call("on_lost", list(self._positions))
        if member is None:
            self._member = member = broker.join(self._topics)
        member.last_poll_s = broker.world.now_s
        member.generation = broker.generation
        target = broker.target(member)
        revoked = member.owned - target
        if revoked:
            self._call("on_revoke", revoked)
            if not member.has_left:
                member.owned -= revoked
                broker.generation += 1
            return
        assigned = broker.free(target) - member.owned
        if assigned:
            member.owned |= assigned
            self._call("on_assign", assigned)

    def _claim(self) -> None:
        """Join as another member, and keep those partitions that nobody else has by now.

        librdkafka (2.16) does so if the group drops a static member that just asks to join.
        """
        broker = self._broker
        broker.went_wrong.add("joined again under another id")
        held = set(self._positions)
        member = self._member = broker.join(self._topics)
        member.generation = broker.generation
        member.owned = broker.free(held)
        self._call("on_revoke", held - member.owned)

    def poll(self, timeout_s: float) -> Message | None:
        deadline_s = self._broker.world.now_s + timeout_s
        while True:
            self._broker.world.wait(0.01)
            if self._is_leaving:
                self._leave()
                self._is_leaving = not self._has_subscribed
            else:
                self._rebalance()
            found = self._fetch(1)
            if found or self._broker.world.now_s >= deadline_s:
                return found[0] if found else None

    def consume(self, most: int, _timeout_s: float) -> list[Message]:
        self._broker.world.wait()
        return self._fetch(self._broker.world.random.randint(0, min(most, 30)))

    def _fetch(self, most: int) -> list[Message]:
        found: list[Message] = []
        for name, position in list(self._positions.items()):
            if name in self._paused:
                continue
            there = self._broker.arrived(name, position)
            for message in there[: most - len(found)]:
                found.append(message)
                self._positions[name] = message.offset() + 1
            if there and found and found[-1] is there[-1] and len(found) < most:
                eof = KafkaError(KafkaError._PARTITION_EOF)
                end = self._positions[name]
                found.append(Message(None, None, end, 0, [], *name, eof))
        return found

    def seek(self, tp: TopicPartition) -> None:
        self._broker.world.wait()
        if self._broker.goes_wrong("seek"):
            raise error(KafkaError._STATE)
        self._positions[tp.topic, tp.partition] = tp.offset

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._paused |= {(tp.topic, tp.partition) for tp in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= {(tp.topic, tp.partition) for tp in partitions}

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            assert tp.offset == OFFSET_BEGINNING
            self._positions[tp.topic, tp.partition] = 0

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            self._positions.pop((tp.topic, tp.partition), None)
            self._paused.discard((tp.topic, tp.partition))

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert not asynchronous
        self._broker.world.wait()
        if not self._broker.is_current(self.consumer_group_metadata()):
            raise error(KafkaError.ILLEGAL_GENERATION)
        self._broker.commit(positions(offsets))

    def close(self) -> None:
        self._broker.world.wait()
        self._leave()

    def _leave(self) -> None:
        if self._member is not None and not self._member.has_left:
            self._call("on_revoke", list(self._positions))
            self._broker.leave(self._member)
        self._member = None


class StateConsumer:
    """Reads the state topic, read-committed, with an event at each partition's end.

    The client fetches in the background: after a long turn there may be an end, records that
    were written after it, and an end again.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._positions: dict[NAME, int] = {}
        self._since_s: dict[NAME, float] = {}
        """When the last record of each partition came."""
        self._said: dict[NAME, int] = {}
        """The end that was said last."""

    def list_topics(self, topic: str, timeout: float) -> None:
        """Nothing to look up."""

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            self._positions[tp.topic, tp.partition] = 0
            self._since_s[tp.topic, tp.partition] = self._broker.world.now_s

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            if (tp.topic, tp.partition) not in self._positions:
                raise error(KafkaError._STATE)
            del self._positions[tp.topic, tp.partition]
            self._said.pop((tp.topic, tp.partition), None)

    def consume(self, _most: int, timeout_s: float) -> list[Message]:
        world = self._broker.world
        world.wait(timeout_s)
        found: list[Message] = []
        for name, position in list(self._positions.items()):
            end = self._broker.stable_end(name)
            stop = min(end, position + world.random.randint(1, 40))
            log = self._broker.written.get(name, [])
            for offset in range(position, stop):
                entry = log[offset]
                found += self._end(name, offset, entry.visible_s)
                self._since_s[name] = max(self._since_s[name], entry.visible_s)
                if entry.is_committed and not entry.is_marker:
                    found.append(Message(entry.key, entry.value, offset, entry.time_ms, [], *name))
            self._positions[name] = stop
            if stop == end:
                found += self._end(name, end, world.now_s)
        return found

    def _end(self, name: NAME, offset: int, until_s: float) -> list[Message]:
        """The end of a partition, if nothing came for so long that the client says so."""
        if until_s - self._since_s[name] < FETCH_WAIT_S or self._said.get(name) == offset:
            return []
        self._said[name] = offset
        return [Message(None, None, offset, 0, [], *name, KafkaError(KafkaError._PARTITION_EOF))]

    def close(self) -> None:
        """It is in no group."""


class Clients(Connections):
    """Clients of the simulated broker."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        super().__init__(settings)
        self._broker = broker

    def consumer(self, *_: object) -> Any:
        return Consumer(self._broker)

    def state_consumer(self) -> Any:
        return StateConsumer(self._broker)

    def producer(self, _: object) -> Any:
        return Producer(self._broker, producer_properties(self._settings))

    def cluster(self) -> Any:
        return Cluster(self._broker)


class ForeignWriter:
    """Another group on the same state topic, that commits all the time."""

    def __init__(self, broker: Broker, partitions: int) -> None:
        self._broker = broker
        self._partitions = partitions

    def run(self) -> None:
        """Write until the process is killed."""
        world = self._broker.world
        self._broker.register("foreign")
        for n in count():
            transaction = self._broker.transaction("foreign")
            for number in range(self._partitions):
                name = (STATE, number)
                key = json.dumps(["other-group", "sensor-readings", f"device-{n % 5}"]).encode()
                transaction.partitions.add(name)
                now_s = world.now_s
                entry = Entry(key, b"{}", {}, transaction, round(now_s * 1000), now_s)
                self._broker.write(name, entry)
            world.wait(world.random.uniform(0, 0.02))
            self._broker.end("foreign", "committed")
            world.wait(world.random.uniform(0, FOREIGN_PAUSE_S))


def positions(offsets: list[TopicPartition]) -> dict[NAME, Committed]:
    return {(tp.topic, tp.partition): Committed(tp.offset, tp.metadata or "") for tp in offsets}
