"""The short form of ``make faults``, and faults that need a broken consumer."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, missing
from tests.faults.driver import CLASSIC, Consumer, Round, Site
from tests.kafka.broker import free_port, missing_tool
from tests.kafka.builders import TopicSet, fetch, wait_until
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tool = missing_tool()
    if tool:
        missing(f"{tool}, to run an Apache Kafka broker that can be killed")
    with Site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.mark.kafka
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_faults_lose_and_repeat_nothing(site: Site, tmp_path: Path, seed: int) -> None:
    report = Round(site, seed, tmp_path, []).run()
    assert not report.wrong, str(report)
    assert report.events > 500


@pytest.mark.kafka
def test_a_stuck_loop_is_not_live_and_its_stacks_are_logged(
    topics: TopicSet, tmp_path: Path
) -> None:
    port = free_port()
    more = {
        "PYTHONPATH": str(ROOT),
        "FAULT_POINT": "before:Commits.turn:20:sleep",
        "STEPSTREAM_PROCESSING__STUCK_AFTER_S": "1",
        "STEPSTREAM_HTTP__PORT": str(port),
    }
    topics.produce(walk(1, 5.0, batch=20))
    with Consumer(topics, tmp_path, **more) as run:
        run.wait_for_log("the loop is stuck")
        assert fetch(port, "/livez")[0] == 503
        assert "in trouble" in run.log.read_text()
        run.wait_for_log("the loop turns again")
        wait_until("a live consumer", lambda: fetch(port, "/livez")[0] == 200)
        topics.wait_consumed()
        assert run.terminate() == 0
    assert topics.read_events()


@pytest.mark.kafka
@pytest.mark.parametrize("ends", ["by itself", "by SIGTERM"])
def test_a_commit_that_hangs_ends_the_process_and_loses_nothing(
    topics: TopicSet, tmp_path: Path, ends: str
) -> None:
    more = {"PYTHONPATH": str(ROOT), "STEPSTREAM_PROCESSING__SHUTDOWN_TIMEOUT_S": "1"}
    topics.produce(walk(4, 5.0, batch=20))
    point = "before:Producer.commit_transaction:2:hang"
    with Consumer(topics, tmp_path, "hangs", **more, FAULT_POINT=point) as run:
        run.wait_for_log("injected")
        if ends == "by SIGTERM":
            assert run.terminate(10) == 1
        else:
            wait_until("the end of the process", lambda: not run.is_alive, 15)
            assert run.exit_code == 1
            assert "a commit hangs in the Kafka client" in run.log.read_text()
    with Consumer(topics, tmp_path, "successor", **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    counts = [(event["device_id"], event["step_count"]) for event in topics.read_events()]
    assert len(counts) == len(set(counts)) > 10


@pytest.mark.kafka
@pytest.mark.parametrize("mutation", [None, "drop-the-generation"])
def test_a_zombie_frozen_in_a_transaction_publishes_nothing(
    site: Site, tmp_path: Path, mutation: str | None
) -> None:
    """With the mistake it does; otherwise this test would prove nothing."""
    topics = TopicSet.create(site.broker.bootstrap)
    properties = json.dumps({**CLASSIC, "heartbeat.interval.ms": 300})
    more = {"PYTHONPATH": str(ROOT), "STEPSTREAM_KAFKA__PROPERTIES": properties}
    frozen = {"FAULT_POINT": "before:Producer.produce:1:stop"}
    if mutation:
        frozen["FAULT_MUTATION"] = mutation
    with Consumer(topics, tmp_path, "zombie", **more, **frozen) as zombie:
        zombie.wait_for_log("partition started")
        topics.produce(walk(4, 5.0, batch=20))
        wait_until("a frozen consumer", lambda: zombie.is_stopped)
        with Consumer(topics, tmp_path, "successor", **more) as successor:
            topics.wait_consumed()
            published = topics.read_events()
            zombie.send(signal.SIGCONT)
            # It sees that its partitions are lost only after its commit is over, either way.
            zombie.wait_for_log("partitions lost")
            assert zombie.terminate() in {0, 1}
            topics.wait_consumed()
            assert successor.terminate() == 0
    events = topics.read_events()
    assert len(published) > 10
    repeated = len(events) - len({event["event_id"] for event in events})
    assert (repeated > 0) if mutation else (repeated == 0 and len(events) == len(published))
