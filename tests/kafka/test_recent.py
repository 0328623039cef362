"""The last hour of a device, read from its topics on a real broker."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.errors import StreamError
from stepstream.outputs import make_encodings
from stepstream.streaming import recent
from stepstream.streaming.connections import Connections
from stepstream.streaming.recent import Recent, RecentRecords
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until
from tests.kafka.test_run import walk
from tests.kafka.test_tail import Publisher, published, tailed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.registry import SchemaRegistry

DEVICES = ("a", "b", "c", "a", "b", "a")


@pytest.fixture
def topics(bootstrap: str) -> TopicSet:
    return TopicSet.create(bootstrap, all_outputs=True)


def look(port: int, path: str) -> Any:
    """What a consumer answers."""
    status, body = fetch(port, path)
    assert status == 200, body
    return json.loads(body)


def read(topics: TopicSet, device: str, since_ms: int = 0, *kinds: str) -> Recent:
    names = {topics.outputs[f"{kind}s"]: kind for kind in kinds or ("minute", "walk")}
    return RecentRecords(Connections(topics.settings())).read(names, device, since_ms)


def await_marks(topics: TopicSet) -> None:
    """Until commits are marked in the topics, which a producer doesn't wait for."""
    for kind in ("minutes", "walks"):
        assert topics.read(topics.outputs[kind])


def steps(found: Recent) -> dict[str, list[int]]:
    """Steps of the records by their kind."""
    return {
        one.kind: [(record.read() or {})["steps"] for record in records]
        for records in found.records.values()
        for one in records
    }


def test_only_what_is_committed_of_the_device_is_read(topics: TopicSet) -> None:
    publisher = Publisher(topics)
    for number, device in enumerate(DEVICES):
        publisher.publish(published(topics, device, number))
    await_marks(topics)
    publisher.producer.begin_transaction()
    publisher.produce(published(topics, "a", 100))
    found = read(topics, "a")
    assert found.is_whole
    assert steps(found) == {"minute": [1, 4, 6], "walk": [1, 4, 6]}
    assert steps(read(topics, "c", 0, "walk")) == {"walk": [3]}
    assert steps(read(topics, "nobody")) == {}
    publisher.producer.abort_transaction()
    assert steps(read(topics, "a")) == {"minute": [1, 4, 6], "walk": [1, 4, 6]}


def test_it_begins_at_a_time(topics: TopicSet) -> None:
    publisher = Publisher(topics)
    publisher.publish(published(topics, "a", 0))
    (first,) = topics.read(topics.outputs["walks"])
    later_ms = first.timestamp()[1] + 1
    wait_until("another millisecond", lambda: time.time_ns() // 1_000_000 >= later_ms)
    assert steps(read(topics, "a", later_ms)) == {}
    publisher.publish(published(topics, "a", 1))
    await_marks(topics)
    assert steps(read(topics, "a", later_ms)) == {"minute": [2], "walk": [2]}


def test_of_too_many_the_latest_are_read(topics: TopicSet, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(topics)
    publisher.publish(one for number in range(30) for one in published(topics, "a", number))
    await_marks(topics)
    # The marker of the transaction has an offset, too.
    monkeypatch.setattr(recent, "MAX_LOOKED_AT", 11)
    found = read(topics, "a")
    assert not found.is_whole
    assert steps(found)["minute"] == list(range(21, 31))
    monkeypatch.setattr(recent, "MAX_LOOKED_AT", 31)
    monkeypatch.setattr(recent, "MAX_KEPT", 2)
    assert steps(read(topics, "a"))["walk"] == [29, 30]


def test_it_ends_in_time_if_no_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "TIMEOUT_S", 0.5)
    away = TopicSet.named(f"127.0.0.1:{free_port()}")
    begin_s = time.monotonic()
    with pytest.raises(StreamError):
        RecentRecords(Connections(away.settings())).read({"minutes": "minute"}, "a", 0)
    assert time.monotonic() - begin_s < 5


@pytest.mark.parametrize(("workers", "written"), [("1", "json"), ("2", "avro")])
def test_the_page_gets_what_was_published(
    topics: TopicSet, registry: SchemaRegistry, tmp_path: Path, workers: str, written: str
) -> None:
    topics.produce(walk(4, 180.0, batch=40))
    port = free_port()
    # Their schemas are there already.
    make_encodings(topics.settings(output={"format": written}, registry={"url": registry.url}))
    more = {
        "STEPSTREAM_HTTP__PORT": str(port),
        "STEPSTREAM_WORKERS": workers,
        "STEPSTREAM_OUTPUT__FORMAT": written,
        "STEPSTREAM_REGISTRY__URL": registry.url,
    }
    with RunProcess(topics, tmp_path, **more) as run:
        topics.wait_consumed()
        counts = {kind: len(topics.read(topics.outputs[kind])) for kind in ("minutes", "walks")}
        options = ("--from", "beginning", "--max")
        kept = {kind: tailed(topics, kind, *options, str(n)) for kind, n in counts.items()}
        for device in ("device-0", "device-3"):
            activity = look(port, f"/v1/activity/{device}?topic={topics.readings}")
            for kind, lines in kept.items():
                values = [line["value"] for line in lines if line["key"] == device]
                assert activity[kind] == values
            assert len(activity["minutes"]) >= 2
            assert activity["is_whole"]
            known = look(port, f"/v1/devices/{device}")
            total = sum(minute["steps"] for minute in activity["minutes"])
            still_open = known["open_minute"] or {"steps": 0}
            assert total + still_open["steps"] == known["step_count"]
        assert run.terminate() == 0, run.log.read_text()
