"""Topics by pattern, on a real broker: they come, grow, go away and come again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from stepstream.cli import main
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until
from tests.kafka.expected import difference, expected_steps
from tests.kafka.played import by_device

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

EPOCH_S = 1_700_000_000
WALK_S = 6.0
QUICKLY = json.dumps({"topic.metadata.refresh.interval.ms": 1000})
SELDOM = json.dumps({"topic.metadata.refresh.interval.ms": 5000})
PARTITIONS = 4

Sent = list[tuple[bytes, bytes]]


def walk(tenant: str, devices: int = 4, begin_s: float = 0.0, seconds: float = WALK_S) -> Sent:
    """Messages of a tenant's walkers, in the order of time."""
    fleet = [Device(f"{tenant}-{n}", Walker(n, seconds + begin_s)) for n in range(devices)]
    stream = messages(fleet, EPOCH_S, seconds + begin_s, batch=20)
    sent = [(message.key, message.value) for message in stream]
    begin = len(sent) * begin_s / (seconds + begin_s)
    return sent[int(begin) // devices * devices :]


def by_key(*sent: Sent) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for key, value in (message for part in sent for message in part):
        values.setdefault(key, []).append(value)
    return values


class Family:
    """Topics whose names match a pattern, and one group that reads them."""

    def __init__(self, topics: TopicSet) -> None:
        self.topics = topics
        self.prefix = topics.readings
        self.admin = AdminClient({"bootstrap.servers": topics.bootstrap})

    @property
    def pattern(self) -> str:
        return rf"^{self.prefix}\..*"

    def create(self, name: str, partitions: int = PARTITIONS, **config: str) -> TopicSet:
        full = f"{self.prefix}.{name}"
        new = NewTopic(
            full, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()}
        )
        self.admin.create_topics([new])[full].result()
        return replace(self.topics, readings=full, partitions=partitions)

    def delete(self, topics: TopicSet) -> None:
        name = topics.readings
        self.admin.delete_topics([name])[name].result()
        wait_until(f"no {name}", lambda: name not in self.admin.list_topics(timeout=10).topics)

    def add_partitions(self, name: str, count: int) -> None:
        self.admin.create_partitions([NewPartitions(name, count)])[name].result()

    def run(self, folder: Path, name: str = "run", **more: str | None) -> RunProcess:
        settings: dict[str, str | None] = {
            "STEPSTREAM_TOPICS__READINGS": self.pattern,
            "STEPSTREAM_KAFKA__PROPERTIES": QUICKLY,
        }
        return RunProcess(self.topics, folder, name, **(settings | more))

    def published(self, devices: Iterable[bytes]) -> dict[str, Any]:
        """What was published of devices."""
        named = {key.decode() for key in devices}
        events = self.topics.read_events()
        return by_device(event for event in events if event["device_id"] in named)

    def check(self, *sent: Sent) -> None:
        """Each step is published once."""
        values = by_key(*sent)
        expected = expected_steps(values)
        assert all(expected.values())
        published = self.published(values)
        wrong = {
            device: difference(steps, published.get(device, []))
            for device, steps in expected.items()
            if published.get(device, []) != steps
        }
        assert not wrong


@pytest.fixture
def family(topics: TopicSet) -> Family:
    return Family(topics)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("start_at", ["earliest", "latest"])
def test_topics_created_while_consumers_run_are_read_from_their_start(
    family: Family, tmp_path: Path, protocol: str, start_at: str
) -> None:
    more = {
        "STEPSTREAM_KAFKA__GROUP_PROTOCOL": protocol,
        "STEPSTREAM_KAFKA__START_AT": start_at,
    }
    old = family.create("old")
    before, first = walk("old"), walk("first")
    old.produce(before)
    with family.run(tmp_path, "a", **more) as a, family.run(tmp_path, "b", **more) as b:
        a.wait_for_log("partition started")
        b.wait_for_log("partition started")
        old.wait_consumed() if start_at == "earliest" else wait_until(
            "all offsets", lambda: len(old.committed()) == PARTITIONS
        )
        later, second = walk("later"), walk("second", 6)
        new = [family.create("one"), family.create("two", 2)]
        for topics, sent in zip([old, *new], [later, first, second], strict=True):
            topics.produce(sent)
        for topics in [old, *new]:
            topics.wait_consumed()
        assert a.terminate() == 0
        assert b.terminate() == 0
    family.check(first, second, later)
    if start_at == "earliest":
        family.check(before)
    else:
        assert family.published(by_key(before)) == {}


def test_a_topic_created_while_no_consumer_ran_is_read_from_its_start(
    family: Family, tmp_path: Path
) -> None:
    more = {"STEPSTREAM_KAFKA__START_AT": "latest"}
    family.create("old")
    with family.run(tmp_path, **more) as run:
        run.wait_for_log("partition started")
        assert run.terminate() == 0
    new, sent = family.create("new"), walk("new")
    new.produce(sent)
    with family.run(tmp_path, **more) as run:
        new.wait_consumed()
        assert run.terminate() == 0
    family.check(sent)


def test_a_consumer_waits_for_the_first_topic_that_matches(family: Family, tmp_path: Path) -> None:
    port = free_port()
    with family.run(tmp_path, STEPSTREAM_HTTP__PORT=str(port)) as run:
        run.wait_for_log("no topic matches")
        wait_until("an answer", lambda: "no topic matches" in _ready(port))
        new, sent = family.create("new"), walk("new")
        new.produce(sent)
        new.wait_consumed()
        wait_until("ready", lambda: _ready(port) == "ready\n")
        assert run.terminate() == 0
    family.check(sent)


def _ready(port: int) -> str:
    try:
        return fetch(port, "/readyz")[1]
    except OSError:
        return ""


@pytest.mark.parametrize("is_named", [True, False])
def test_partitions_added_to_a_topic_are_read_from_their_start(
    family: Family, tmp_path: Path, *, is_named: bool
) -> None:
    topics = family.create("growing", 1)
    more = {"STEPSTREAM_KAFKA__START_AT": "latest"}
    if is_named:
        more["STEPSTREAM_TOPICS__READINGS"] = topics.readings
    before, later = walk("before"), walk("later", 8)
    with family.run(tmp_path, **more) as run:
        run.wait_for_log("partition started")
        topics.produce(before)
        topics.wait_consumed()
        family.add_partitions(topics.readings, 3)
        topics = replace(topics, partitions=3)
        topics.produce(later)
        topics.wait_consumed()
        assert run.terminate() == 0
    family.check(before, later)
    if is_named:
        return
    with family.run(tmp_path, "refused") as run:
        run.wait_for_log("add changed-partitions to processing.accept")
        assert run.is_alive
        assert run.terminate() == 0


def test_a_deleted_topic_stops_no_other_and_is_read_from_its_start_when_it_comes_again(
    family: Family, tmp_path: Path
) -> None:
    staying, going = family.create("staying"), family.create("going")
    sent = walk("staying", seconds=12.0)
    before, again = walk("going"), walk("going", begin_s=WALK_S + 20)
    port = free_port()
    with family.run(tmp_path, STEPSTREAM_HTTP__PORT=str(port)) as run:
        staying.produce(sent[:200])
        going.produce(before)
        going.wait_consumed()
        family.delete(going)
        staying.produce(sent[200:400])
        staying.wait_consumed()
        run.wait_for_log(f"no_longer_read={going.readings}")
        wait_until("ready", lambda: _ready(port) == "ready\n")
        staying.produce(sent[400:])
        going = family.create("going")
        going.produce(again)
        going.wait_consumed()
        staying.wait_consumed()
        assert run.terminate() == 0
    family.check(sent)
    family.check([*before, *again])


def test_a_topic_recreated_between_two_looks_is_read_from_its_start(
    family: Family, tmp_path: Path
) -> None:
    more = {"STEPSTREAM_KAFKA__PROPERTIES": SELDOM}
    topics = family.create("again", 1)
    before, again, later = walk("again", 2), walk("again", 4, begin_s=26.0), walk("later", 4)
    with family.run(tmp_path, **more) as run:
        topics.produce(before)
        topics.wait_consumed()
        family.delete(topics)
        topics = family.create("again", 1)
        topics.produce(again)
        run.wait_for_log("it was created again")
        topics.produce(later)
        topics.wait_consumed()
        assert run.terminate() == 0
    family.check(later)
    published = family.published(by_key(before, again))
    # Steps that lie before those found at the old offsets may be missing, but none is repeated.
    for steps in published.values():
        ends = [end_us for _, _, end_us, *_ in steps]
        assert [count for count, *_ in steps] == list(range(1, len(steps) + 1))
        assert ends == sorted(set(ends))
    assert published.keys() == {key.decode() for key in by_key(again)}


def test_a_topic_that_cannot_be_read_stops_no_other(family: Family, tmp_path: Path) -> None:
    port = free_port()
    good, sent = family.create("good"), walk("good")
    with family.run(tmp_path, STEPSTREAM_HTTP__PORT=str(port)) as run:
        run.wait_for_log("partition started")
        large, late = family.create("large", PARTITIONS + 2), walk("large", 12)
        family.create("compacted", cleanup_policy="compact")
        large.produce(late)
        run.wait_for_log("it has cleanup.policy=compact, expected delete")
        run.wait_for_log(f"it has {PARTITIONS + 2} partitions, the state topic has {PARTITIONS}")
        good.produce(sent)
        good.wait_consumed()
        metrics = fetch(port, "/metrics")[1]
        assert 'stepstream_topics{state="read"} 1.0' in metrics
        assert 'stepstream_topics{state="refused"} 2.0' in metrics
        assert large.committed() == {}
        family.add_partitions(family.topics.state, PARTITIONS + 2)
        large.wait_consumed()
        assert run.terminate() == 0
    family.check(sent, late)


def test_consumers_killed_while_they_take_up_a_topic_count_each_step_once(
    family: Family, tmp_path: Path
) -> None:
    def is_taken_up(run: RunProcess, topics: TopicSet) -> bool:
        return topics.readings in run.log.read_text()

    def has_started(run: RunProcess, topics: TopicSet) -> bool:
        return f"partition={topics.readings}-" in run.log.read_text()

    def has_committed(_: RunProcess, topics: TopicSet) -> bool:
        return bool(topics.committed())

    family.create("first")
    sent: list[Sent] = []
    created: list[TopicSet] = []
    for n, moment in enumerate((is_taken_up, has_started, has_committed)):
        with family.run(tmp_path, f"a-{n}") as a, family.run(tmp_path, f"b-{n}") as b:
            for run in (a, b):
                run.wait_for_log("partition started")
            topics, walked = family.create(f"new-{n}"), walk(f"new-{n}", 6)
            sent.append(walked)
            created.append(topics)
            topics.produce(walked[: len(walked) // 2])
            # Either of them may be assigned the whole topic.
            first = wait_until(
                moment.__name__,
                lambda: next((run for run in (b, a) if moment(run, topics)), None),  # noqa: B023 - it is called here
            )
            first.kill()
            topics.produce(walked[len(walked) // 2 :])
            for one in created:
                one.wait_consumed()
            (a if first is b else b).kill()
    family.check(*sent)


def test_dead_letters_of_a_topic_that_matches_go_back_there(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = family.create("broken", 1)
    topics.produce([(b"device-0", b"not json")])
    with family.run(tmp_path) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    for variable, value in family.topics.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("STEPSTREAM_TOPICS__READINGS", family.pattern)
    assert main(["replay-dead-letters"]) == 0
    assert [message.value() for message in topics.read(topics.readings)] == [b"not json"] * 2


def test_topics_says_what_matches_and_what_later_topics_must_be_like(
    family: Family, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in family.topics.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("STEPSTREAM_TOPICS__READINGS", family.pattern)
    for name, count in (("good", 1), ("large", PARTITIONS + 1)):
        made = family.create(name, count).readings
        wait_until(made, lambda: made in family.admin.list_topics(timeout=10).topics)  # noqa: B023 - it is called here
    assert main(["topics"]) == 0
    said = capsys.readouterr().out
    assert f"{family.prefix}.good: matches\n" in said
    assert f"{family.prefix}.large: not read: it has {PARTITIONS + 1} partitions" in said
    assert f"are read if they have at most {PARTITIONS} partitions" in said
