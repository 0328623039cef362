"""A consumer that is told to stop, in whatever it does, ends soon, and its group knows at once."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import ConsumerGroupState

from tests.faults.driver import Consumer
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

END_S = 30.0
"""Of a process that may have to start yet; far less than its session."""
KNOWN_AFTER_S = 3.0
JOINING_S = 1.5
"""More than a second: so often the client says that it is joining."""
LONG_SESSION = {"STEPSTREAM_KAFKA__SESSION_TIMEOUT_MS": "60000"}
"""Whoever doesn't leave stays a member for longer than any test waits."""

POINTS = {
    "starting": "before:Producer.init_transactions:1",
    "its first poll": "before:Consumer.poll:1",
    "being assigned": "before:Assignment.assign:1",
    "looking up": "before:Preparation.turn:1",
    "reading the ledger": "before:LedgerReader.turn:1",
    "planning": "before:Partition.start_at:1",
    "replaying": "before:Processor.process:1",
    "processing": "after:Processor.process:1",
    "committing": "before:Producer.send_offsets_to_transaction:1",
    "having committed": "after:Producer.commit_transaction:1",
}


def told_to_stop(run: RunProcess) -> None:
    """Wait until a process has ended as it should."""
    wait_until("the end of the process", lambda: not run.is_alive, END_S)
    assert run.exit_code == 0, run.log.read_text()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_it_leaves_whatever_it_does(topics: TopicSet, tmp_path: Path, protocol: str) -> None:
    with RunProcess(topics, tmp_path, "before") as run:
        topics.produce(walk(8, 6.0, batch=20))
        topics.wait_consumed()
        assert run.terminate() == 0
    for doing, point in POINTS.items():
        topics.produce(walk(8, 2.0, batch=20))
        more = {
            **LONG_SESSION,
            "STEPSTREAM_KAFKA__GROUP_PROTOCOL": protocol,
            "FAULT_POINT": f"{point}:terminate",
        }
        with Consumer(topics, tmp_path, doing.replace(" ", "-"), **more) as run:
            told_to_stop(run)
            assert "injected" in run.log.read_text()
        assert_known(topics)


def assert_known(topics: TopicSet, others: int = 0) -> None:
    """The group knows that it has only some members left."""
    wait_until(
        f"{others} members", lambda: len(topics.describe_group().members) == others, KNOWN_AFTER_S
    )


def test_it_leaves_while_it_waits_for_its_place_in_the_group(
    topics: TopicSet, tmp_path: Path
) -> None:
    with RunProcess(topics, tmp_path, "frozen", **LONG_SESSION) as frozen:
        frozen.wait_for_log("partition started")
        frozen.send(signal.SIGSTOP)
        with RunProcess(topics, tmp_path, "joining", **LONG_SESSION) as run:
            wait_until(
                "a rebalance",
                lambda: topics.describe_group().state is ConsumerGroupState.PREPARING_REBALANCING,
            )
            time.sleep(JOINING_S)
            run.send(signal.SIGTERM)
            time.sleep(JOINING_S)
            # A request to leave would wait until the frozen one joins, too.
            assert run.is_alive
            frozen.send(signal.SIGCONT)
            told_to_stop(run)
        assert_known(topics, others=1)
        assert frozen.terminate() == 0


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_of_two_processes_with_one_name_the_first_ends_and_says_why(
    topics: TopicSet, tmp_path: Path, guarantee: str
) -> None:
    same = {
        "STEPSTREAM_KAFKA__TRANSACTIONAL_ID": topics.group,
        "STEPSTREAM_PROCESSING__GUARANTEE": guarantee,
    }
    with RunProcess(topics, tmp_path, "first", **same) as first:
        first.wait_for_log("partition started")
        with RunProcess(topics, tmp_path, "second", **same) as second:
            wait_until("the end of the first", lambda: not first.is_alive)
            assert first.exit_code == 1
            last = first.log.read_text().splitlines()[-1]
            assert "another process uses" in last
            second.wait_for_log("partition started")
            assert second.terminate() == 0


def test_it_ends_while_no_broker_answers(topics: TopicSet, tmp_path: Path) -> None:
    nowhere = {"STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    with RunProcess(topics, tmp_path, "nowhere", **nowhere) as run:
        run.wait_for_log(" started")
        run.send(signal.SIGTERM)
        told_to_stop(run)


def test_it_ends_as_soon_as_it_has_begun(topics: TopicSet, tmp_path: Path) -> None:
    with RunProcess(topics, tmp_path, "begun") as run:
        # Before it knows any settings, the signal's own effect ends it.
        run.send(signal.SIGTERM)
        wait_until("the end of the process", lambda: not run.is_alive, END_S)
        assert run.exit_code in {0, -signal.SIGTERM}
