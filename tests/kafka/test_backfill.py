"""``stepstream backfill`` on a real broker."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from stepstream.detection import default_model_path
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.partitioning import partition_of
from tests.kafka.builders import RunProcess, TopicSet, run_command, wait_until
from tests.kafka.expected import expected_steps
from tests.kafka.played import by_device
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

INT8 = str(default_model_path()).replace(".tflite", "-int8.tflite")
BEGIN_S = 200.0
"""Second of the walks at which a range begins that doesn't begin with the topic."""


@pytest.fixture(autouse=True)
def _runtime_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))


def start(
    topics: TopicSet, folder: Path, *arguments: str, name: str = "backfill", **more: str | None
) -> RunProcess:
    class Backfill(RunProcess):
        program = ("stepstream", "backfill", *arguments)

    more = {"STEPSTREAM_KAFKA__TRANSACTIONAL_ID": None, **more}
    return Backfill(topics, folder, name, **more)


def backfill(
    topics: TopicSet, folder: Path, *arguments: str, **more: str | None
) -> tuple[int, str]:
    """Run one to its end: exit code, and what it wrote."""
    with start(topics, folder, *arguments, name="backfill", **more) as run:
        wait_until("the end of the backfill", lambda: not run.is_alive)
        return run.exit_code or 0, run.log.read_text()


def workers_of(run: RunProcess) -> list[int]:
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    return [
        int(pid)
        for pid in children
        if b"stepstream.commands.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def latest(messages: Iterable[Message]) -> set[tuple[bytes | None, bytes | None]]:
    """Keys and values, of counts the latest."""
    pairs = [(message.topic() or "", message.key(), message.value()) for message in messages]
    if pairs and pairs[0][0].startswith("counts"):
        return set({key: value for _, key, value in pairs}.items())
    assert len(set(pairs)) == len(pairs)
    return {(key, value) for _, key, value in pairs}


def in_order(events: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        grouped.setdefault(event["device_id"], []).append(event)
    return grouped


def test_a_backfill_that_is_killed_three_times_equals_one_that_is_not(
    topics: TopicSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = walk(20, 60.0)
    topics.produce([*sent, (b"device-0", b"not json")])
    options = ("--workers", "2", "--model.path", INT8)
    others = [f"{kind}-{topics.group}" for kind in ("minutes", "walks", "counts")]
    outputs = {f"STEPSTREAM_TOPICS__{name.split('-')[0].upper()}": name for name in others}
    slow = {"STEPSTREAM_PROCESSING__POLL_MAX_MESSAGES": "200", **outputs}
    code, text = backfill(topics, tmp_path, "--into", "whole", *options, **outputs)
    assert code == 0, text
    assert f"{len(sent):,}         1        20" in text

    killed = topics.into("killed")
    run = start(topics, tmp_path, "--into", "killed", *options, name="1", **slow)
    try:
        for number, share in enumerate([0.1, 0.3, 0.5]):
            least = share * len(sent)
            wait_until("progress", lambda: sum(killed.committed().values()) > least)  # noqa: B023
            assert run.is_alive, run.log.read_text()
            victims = workers_of(run)
            if number == 0:
                os.kill(victims[0], signal.SIGKILL)
                # The bounds were fixed at the first start: these are not read.
                topics.produce([(key, value) for key, value in sent[-100:]])
                continue
            run.kill()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            run = start(topics, tmp_path, "--into", "killed", *options, name=f"{number}", **slow)
        wait_until("the end of the backfill", lambda: not run.is_alive)
        assert run.exit_code == 0, run.log.read_text()
    finally:
        run.__exit__()
    events = killed.read_events()
    assert in_order(events) == in_order(topics.into("whole").read_events())
    assert max(Counter(event["event_id"] for event in events).values()) == 1
    assert len(killed.read(killed.dead_letters)) == 1
    for name in others:
        found, expected = (latest(topics.read(f"{name}.{own}")) for own in ("killed", "whole"))
        assert found == expected
        assert expected or name.startswith("walks"), name
    assert run.log.read_text().splitlines()[-6:-1] == text.splitlines()[-6:-1]

    values: dict[bytes, list[bytes]] = {}
    for key, value in sent:
        values.setdefault(key, []).append(value)
    monkeypatch.setenv("STEPSTREAM_MODEL__PATH", INT8)
    assert by_device(events) == expected_steps(values)


def produce_at_their_times(topics: TopicSet, devices: int, seconds: float) -> int:
    """Walks whose record times are those of their readings; the time of their beginning, ms.

    The topic keeps these times from the moment of its creation.
    """
    producer = Producer({"bootstrap.servers": topics.bootstrap, "linger.ms": 20})
    times = []
    for key, value in walk(devices, seconds, batch=20):
        found = re.search(rb'"timestamp":\[([0-9.]+)', value)
        assert found
        times.append(round(float(found[1]) * 1000))
        number = partition_of(key, topics.partitions)
        producer.produce(topics.readings, value, key, partition=number, timestamp=times[-1])
    assert producer.flush(60) == 0
    return times[0]


def test_a_range_in_the_middle_has_the_steps_that_were_published_live(
    bootstrap: str, tmp_path: Path
) -> None:
    topics = TopicSet.create(bootstrap, all_outputs=True, own_times=True)
    epoch_ms = produce_at_their_times(topics, 8, 300.0)
    with RunProcess(topics, tmp_path):
        topics.wait_consumed()
    live = topics.read_events()
    begin_s = epoch_ms / 1000 + BEGIN_S
    whole_s = math.ceil(begin_s / 60) * 60
    end = iso(whole_s + 65)
    options = ("--into", "late", "--from", iso(begin_s), "--to", end, "--compare")
    outputs = {f"STEPSTREAM_TOPICS__{k.upper()}": name for k, name in topics.outputs.items()}
    code, text = backfill(topics, tmp_path, *options, **outputs)
    assert code == 0, text
    late = topics.into("late")
    first = Cluster(late.settings()).messages_since(
        {(topics.readings, p): round(begin_s * 1000) for p in range(topics.partitions)}
    )
    replays = [int(found) for found in re.findall(r"replay=(\d+)", text)]
    # It began with the history that windows need, and not with the topic.
    assert len(replays) > 1
    firsts = sorted(at for at, _ in first.values())
    assert all(0 < replay < at for replay, at in zip(sorted(replays), firsts, strict=True))
    ends = late.committed()

    def is_within(event: dict[str, Any]) -> bool:
        name, number, offset, _ = event["event_id"].rsplit("-", 3)
        at = name, int(number)
        return at in first and first[at][0] <= int(offset) < ends[int(number)]

    expected = [{**event, "step_count": None} for event in live if is_within(event)]
    found = [{**event, "step_count": None} for event in late.read_events()]
    assert len(found) > 8 * 60
    assert in_order(found) == in_order(expected)
    assert f"steps: {len(found):,}, live {len(found):,} (+0.00%)" in text
    # The minute that is wholly in the range is that of the live topic. It isn't final yet there at
    # the end of the range.
    minutes, of_live = (
        {(one["device_id"], one["minute"]): one for one in its.read_values(its.outputs["minutes"])}
        for its in (late, topics)
    )
    assert len(minutes) == 2 * 8
    for device in {event["device_id"] for event in found}:
        whole = device, iso(whole_s)
        assert minutes[whole] == of_live[whole]
        assert minutes[device, iso(whole_s - 60)]["steps"] < 60
    assert "cut by the end of the range and not published: 8 minutes, " in text
    assert "devices with steps: 8; only here 0, only live 0" in text
    assert "p1 1.000  p5 1.000  p25 1.000  p50 1.000" in text


def test_devices_that_were_forgotten_in_the_range_are_compared_too(
    topics: TopicSet, tmp_path: Path
) -> None:
    sent = walk(4, 16.0, batch=20)
    before, after = sent[: len(sent) // 2], sent[len(sent) // 2 :]
    with RunProcess(topics, tmp_path):
        topics.produce(before)
        topics.wait_consumed()
        done = run_command(topics, tmp_path, "forget", "device-0", "device-1")
        assert done.returncode == 0, done
        topics.produce([message for message in after if message[0] != b"device-1"])
        topics.wait_consumed()
    live = topics.read_events()
    code, text = backfill(topics, tmp_path, "--into", "again", "--compare")
    assert code == 0, text
    assert in_order(topics.into("again").read_events()) == in_order(live)
    assert f"steps: {len(live):,}, live {len(live):,} (+0.00%)" in text
    assert "devices with steps: 4; only here 0, only live 0" in text
    (summary,) = (line.split() for line in text.splitlines() if line.startswith("all "))
    # All steps are in the sum. The device that sent nothing later stays forgotten.
    assert summary[3:] == ["3", f"{len(live):,}"]


def test_live_events_with_the_times_of_their_steps_are_found_however_late_they_are(
    topics: TopicSet, tmp_path: Path
) -> None:
    """Those times are years ago; only the transaction marker behind them has a time of now."""
    topics.configure(topics.events, "retention.ms", "-1")
    begin_s = time.time() - 60
    topics.produce(walk(6, 12.0, batch=20))
    with RunProcess(topics, tmp_path, STEPSTREAM_OUTPUT__RECORD_TIME="event") as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    count = len(topics.read_events())
    code, text = backfill(topics, tmp_path, "--into", "a", "--from", iso(begin_s), "--compare")
    assert code == 0, text
    assert f"steps: {count:,}, live {count:,} (+0.00%)" in text
    assert "may have been deleted" not in text


def test_readings_that_the_live_group_has_not_read_are_not_compared(
    topics: TopicSet, tmp_path: Path
) -> None:
    sent = walk(8, 12.0, batch=20)
    later = [message for message in sent if message[0] in {b"device-6", b"device-7"}]
    topics.produce([message for message in sent if message not in later])
    code, text = backfill(topics, tmp_path, "--into", "early", "--compare")
    assert code == 0, text
    assert f"the group {topics.group} has committed nothing" in text
    assert ", live 0 (none to compare with)" in text
    with RunProcess(topics, tmp_path) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    topics.produce(later)
    code, text = backfill(topics, tmp_path, "--into", "again", "--compare")
    assert code == 0, text
    count = len(topics.read_events())
    assert len(topics.into("again").read_events()) > count
    assert f"steps: {count:,}, live {count:,} (+0.00%)" in text
    assert "devices with steps: 6; only here 0, only live 0" in text
    left = f"not compared: {len(later):,} messages that {topics.group} hasn't read yet"
    assert text.splitlines()[-1] == left


def test_what_can_not_be_compared_or_served_is_refused_before_anything_is_created(
    topics: TopicSet, tmp_path: Path
) -> None:
    topics.produce(walk(1, 1.0, batch=20))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, reason in [
            (("--compare", "--topics.events", "nothing"), "there is no topic nothing to compare"),
            (("--http.address", "127.0.0.1", "--http.port", port), f"http.port {port} on 127."),
        ]:
            code, text = backfill(topics, tmp_path, "--into", "a", *arguments)
            assert code > 0
            assert reason in text
            assert text.count("\n") == 1
    created = AdminClient({"bootstrap.servers": topics.bootstrap}).list_topics(timeout=30).topics
    assert topics.readings in created
    assert not {topics.into("a").state, topics.into("a").events} & set(created)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def test_what_does_not_belong_together_is_refused_with_what_to_do(
    topics: TopicSet, tmp_path: Path
) -> None:
    topics.produce(walk(4, 6.0, batch=20))
    code, text = backfill(topics, tmp_path, "--into", "a", "--from", "3", "--to", "12")
    assert code == 0, text
    events = topics.into("a").read_events()
    assert {int(event["event_id"].rsplit("-", 2)[1]) // 3 for event in events} <= {1, 2, 3}
    for arguments, reason in [
        (("--into", "a"), "was begun with the bounds --from 3 --to 12, not with no bounds"),
        (
            ("--into", "a", "--from", "3", "--to", "12", "--model.path", INT8),
            "was begun with the model stepstream-walk-5.2, not with the model stepstream-walk-int8",
        ),
        (("--into", "a", "--to", "2100-01-01T00:00:00Z"), "--to is in the future"),
        (("--into", "a", "--from", "5", "--to", "5"), "--to has to be after --from"),
        (("--into", "a b"), "into: String should match pattern"),
        (("--compare",), "--compare needs --into"),
        (("--into", "a", "--topics.readings", "nothing"), "there is no topic nothing"),
    ]:
        code, text = backfill(topics, tmp_path, *arguments)
        assert code > 0
        assert reason in text
    # The same again, and nothing to do.
    code, text = backfill(topics, tmp_path, "--into", "a", "--from", "3", "--to", "12")
    assert (code, "partition started" in text) == (0, False)
    assert topics.into("a").read_events() == events

    with RunProcess(topics, tmp_path):
        topics.wait_consumed()
    code, text = backfill(topics, tmp_path)
    assert code == 1
    assert "committed offsets that are no backfill's: give the backfill a group of its own" in text

    # Brokers forget a group that has had no member for a week.
    gone = topics.into("a")
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    for future in admin.delete_consumer_groups([gone.group]).values():
        future.result()
    code, text = backfill(topics, tmp_path, "--into", "a", "--from", "3", "--to", "12")
    assert code == 1
    assert f"has step counts of the group {gone.group}, whose offsets are gone" in text


def test_partitions_that_are_added_meanwhile_are_not_read(topics: TopicSet, tmp_path: Path) -> None:
    sent = walk(8, 60.0)
    topics.produce(sent)
    slow = {"STEPSTREAM_PROCESSING__POLL_MAX_MESSAGES": "100"}
    own = topics.into("a")
    with start(topics, tmp_path, "--into", "a", name="first", **slow) as run:
        wait_until("progress", lambda: sum(own.committed().values()) > 1_000)
        assert run.terminate() == 1
        assert "the same command continues there" in run.log.read_text()
    assert sum(own.committed().values()) < len(sent)
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    for name in (topics.readings, own.state):
        for future in admin.create_partitions([NewPartitions(name, 6)]).values():
            future.result()
    more = replace(topics, partitions=6)
    more.produce(walk(16, 6.0, batch=20))
    code, text = backfill(topics, tmp_path, "--into", "a")
    assert code == 0, text
    assert f"all                                    {len(sent):,}         0         8" in text
