"""``stepstream topics`` on a real broker."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from stepstream.cli import main
from tests.kafka.builders import TopicSet

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def fresh(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], TopicSet]:
    """Names of topics that don't exist yet, set in the environment."""

    def name(suffix: str) -> TopicSet:
        unique = uuid.uuid4().hex[:6]
        readings, events, dead, state, group = (
            f"{kind}-{suffix}-{unique}" for kind in ("readings", "events", "dead", "state", "group")
        )
        topics = TopicSet(bootstrap, readings, events, dead, state, group, partitions=3)
        for variable, value in topics.environment().items():
            monkeypatch.setenv(variable, value)
        return topics

    return name


def create(topics: TopicSet, name: str, partitions: int, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    new = NewTopic(name, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})
    admin.create_topics([new], operation_timeout=30)[name].result()


def test_missing_topics_are_created_as_they_have_to_be(
    fresh: Callable[[str], TopicSet], capsys: pytest.CaptureFixture[str]
) -> None:
    topics = fresh("created")
    assert main(["topics", "--topics.partitions", "3"]) == 0
    assert capsys.readouterr().out.count(": created") == 4
    assert main(["topics", "--topics.partitions", "3"]) == 0
    assert capsys.readouterr().out.count(": exists") == 4
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    (state,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topics.state)]).values()
    config = state.result()
    assert config["cleanup.policy"].value == "compact"
    assert config["segment.bytes"].value == str(1 << 20)
    found = admin.list_topics(timeout=30).topics
    assert {len(found[name].partitions) for name in (topics.readings, topics.state)} == {3}


def test_every_difference_is_named_and_what_replicas_mean(
    fresh: Callable[[str], TopicSet], capsys: pytest.CaptureFixture[str]
) -> None:
    topics = fresh("different")
    create(topics, topics.readings, 3, message_timestamp_type="CreateTime")
    create(topics, topics.state, 5, cleanup_policy="compact", segment_bytes="2097152")
    assert main(["topics", "--topics.partitions", "4"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    at = lines.index(f"{topics.readings}: exists; 1 replica: what its broker loses is lost")
    assert lines[at + 1] == "  differs: 3 partitions, topics.partitions is 4"
    assert lines[at + 2].startswith(
        "  differs: message.timestamp.type=CreateTime, LogAppendTime when stepstream creates it: "
    )
    at = next(n for n, line in enumerate(lines) if line.startswith(f"{topics.state}: exists"))
    assert lines[at + 1] == "  differs: 5 partitions, topics.partitions is 4"
    assert any("segment.bytes=2097152, 1048576 when" in line for line in lines[at:])
    at = next(n for n, line in enumerate(lines) if line.startswith(f"{topics.events}: created"))
    assert not lines[at + 1].startswith("  differs")
    (warning,) = [line for line in said.err.splitlines() if "warning: " in line]
    assert topics.state in warning
    assert "one replica: readings, events and step counts are lost" in warning


def test_a_state_topic_that_is_not_compacted_is_refused(
    fresh: Callable[[str], TopicSet], capsys: pytest.CaptureFixture[str]
) -> None:
    topics = fresh("deleting")
    create(topics, topics.state, 4, cleanup_policy="delete")
    assert main(["topics"]) == 1
    assert f"topic {topics.state} has cleanup.policy=delete, expected compact" in (
        capsys.readouterr().err
    )


def test_a_state_topic_with_too_few_partitions_is_refused(
    fresh: Callable[[str], TopicSet], capsys: pytest.CaptureFixture[str]
) -> None:
    topics = fresh("small")
    create(topics, topics.state, 2, cleanup_policy="compact")
    assert main(["topics"]) == 1
    assert "has 2 partitions, the readings have 4" in capsys.readouterr().err
