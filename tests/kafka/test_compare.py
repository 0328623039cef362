"""A canary: a second group with another model, and ``stepstream compare`` beside both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from prometheus_client.parser import text_string_to_metric_families

from stepstream.streaming.cluster import Cluster
from stepstream.streaming.comparison import count_published
from stepstream.streaming.ranges import Range
from tests.builders import encode, put_model
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.registry import SchemaRegistry


def compare(topics: TopicSet, folder: Path, *arguments: str, **more: str) -> RunProcess:
    class Compare(RunProcess):
        program = ("stepstream", "compare", *arguments)

    return Compare(topics, folder, "compare", **more)


def gauges(port: int) -> dict[tuple[str, ...], float]:
    """Values by name and label."""
    status, text = fetch(port, "/metrics")
    assert status == 200
    return {
        (sample.name.removeprefix("stepstream_comparison_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_canary_publishes_apart_and_is_compared_with_the_live_group(
    topics: TopicSet, tmp_path: Path
) -> None:
    stricter = tmp_path / "stricter.tflite"
    put_model(stricter, version="9.9", start_threshold=0.5, walking_threshold=0.75)
    canary = topics.into("next")
    topics.produce(walk(6, 30.0, batch=20))
    with RunProcess(topics, tmp_path, "live") as live:
        topics.wait_consumed()
        named = {"STEPSTREAM_INTO": "next", "STEPSTREAM_MODEL__PATH": str(stricter)}
        with compare(topics, tmp_path, "--into", "next", "--once") as early:
            wait_until("the end", lambda: not early.is_alive)
            assert early.exit_code == 1
            assert f"{canary.group} has committed nothing" in early.log.read_text()
        with create(topics, tmp_path) as made:
            wait_until("the topics of the canary", lambda: not made.is_alive)
            assert made.exit_code == 0
        with RunProcess(topics, tmp_path, "canary", **named) as other:
            canary.wait_consumed()
            port = free_port()
            options = {"STEPSTREAM_HTTP__PORT": str(port)}
            with compare(topics, tmp_path, "--into", "next", **options) as beside:
                beside.wait_for_log("steps for each live step, by device")
                shown = gauges(port)
                assert beside.terminate() == 0
            assert other.terminate() == 0
        assert live.terminate() == 0
    counts = len(topics.read_events()), len(canary.read_events())
    assert counts[0] > counts[1] > 0
    assert [shown["steps", "live"], shown["steps", "other"]] == [*counts]
    assert shown["devices", "both"] == 6
    assert shown["ratio", "1"] <= shown["ratio", "50"] <= shown["ratio", "99"] <= 1
    assert {event["model"].rpartition("-")[2] for event in canary.read_events()} == {"9.9"}


def test_groups_that_write_avro_are_compared_too(
    topics: TopicSet, registry: SchemaRegistry, tmp_path: Path
) -> None:
    written = {"STEPSTREAM_OUTPUT__FORMAT": "avro", "STEPSTREAM_REGISTRY__URL": registry.url}
    canary = topics.into("next")
    topics.produce(walk(3, 12.0, batch=20))
    with create(topics, tmp_path) as made:
        wait_until("the topics of the canary", lambda: not made.is_alive)
    with (
        RunProcess(topics, tmp_path, "live", **written) as live,
        RunProcess(topics, tmp_path, "canary", **written, STEPSTREAM_INTO="next") as other,
    ):
        topics.wait_consumed()
        canary.wait_consumed()
        assert [live.terminate(), other.terminate()] == [0, 0]
    with compare(topics, tmp_path, "--into", "next", "--once") as run:
        wait_until("the end", lambda: not run.is_alive)
        assert run.exit_code == 0
        assert "(+0.00%)" in run.log.read_text()
        assert "devices with steps: 3; only here 0, only live 0" in run.log.read_text()


def test_an_event_that_was_published_again_counts_once(topics: TopicSet) -> None:
    """Under `at_least_once`, a crash between events and offsets publishes some again."""
    found = [(number, step) for number in range(3) for step in range(2)]
    again = [*found[:4], *found[2:], (9, 0)]
    producer = Producer({"bootstrap.servers": topics.bootstrap})
    for device in ("a", "b"):
        for offset, step in again:
            name = f"{topics.readings}-1-{offset}-{step}"
            value = encode({"event_id": name, "device_id": device})
            producer.produce(topics.events, value, device)
    assert producer.flush(30) == 0
    settings, place = topics.settings(), (topics.readings, 1)
    ranges = {place: Range(0, 9)}
    live = count_published(settings, Cluster(settings), topics.events, ranges)
    assert live.counts == {place: {"a": 6, "b": 6}}


@pytest.mark.parametrize("has_event_time", [True, False])
def test_events_are_looked_for_by_time_only_if_it_is_that_of_their_publication(
    topics: TopicSet, *, has_event_time: bool
) -> None:
    """With `output.record_time=event`, those of a late device are older than its readings."""
    now_ms = round(time.time() * 1000)
    producer = Producer({"bootstrap.servers": topics.bootstrap})
    for offset, (device, late_ms) in enumerate([("late", 7_200_000), ("now", 0)]):
        time_ms = now_ms - late_ms
        ended_at = time_ms / 1000 - (0 if has_event_time else 1)
        event = {
            "event_id": f"{topics.readings}-1-{offset}-0",
            "device_id": device,
            "ended_at": ended_at,
        }
        producer.produce(topics.events, encode(event), partition=2, timestamp=time_ms)
    assert producer.flush(30) == 0
    settings, place = topics.settings(), (topics.readings, 1)
    ranges = {place: Range(0, 2, now_ms)}
    live = count_published(settings, Cluster(settings), topics.events, ranges)
    assert live.counts == {place: {"late": 1, "now": 1} if has_event_time else {"now": 1}}
    # Only the late one is in this range.
    ranges = {place: Range(0, 1, now_ms + 3_600_000)}
    live = count_published(settings, Cluster(settings), topics.events, ranges)
    assert live.counts == {place: {"late": 1} if has_event_time else {}}


def test_a_partition_whose_leader_is_changing_is_asked_for_again(
    topics: TopicSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, place = topics.settings(), (topics.readings, 1)
    # While they are new, brokers may refuse by themselves.
    topics.end_offsets(topics.events)
    asked, answers = [], Cluster.offsets

    def refuse_once(self: Cluster, *names: Any, **how: Any) -> dict[tuple[str, int], int]:
        asked.append(how)
        if len(asked) == 1:
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return answers(self, *names, **how)

    monkeypatch.setattr(Cluster, "offsets", refuse_once)
    live = count_published(settings, Cluster(settings), topics.events, {place: Range(0, 9)})
    assert live.counts == {place: {}}
    assert [how["at_end"] for how in asked] == [False, False, True]


def create(topics: TopicSet, folder: Path) -> RunProcess:
    class Topics(RunProcess):
        program = ("stepstream", "topics", "--into", "next")

    return Topics(topics, folder, "topics")
