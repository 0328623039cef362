"""A static member that the group dropped while it asked to join: another had its partitions."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import ConsumerGroupState

from tests.faults.driver import Site
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.expected import difference, expected_steps
from tests.kafka.played import by_device
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

# A broker that is away must not end a window: `detect` knows of no such pause.
BOTH = {"STEPSTREAM_PROCESSING__IDLE_TIMEOUT_S": "120"}
SHORT = {**BOTH, "STEPSTREAM_KAFKA__SESSION_TIMEOUT_MS": "2000"}
LONGER = {**BOTH, "STEPSTREAM_KAFKA__SESSION_TIMEOUT_MS": "6000"}
GIVEN_UP = ("the group dropped this member", "partitions lost")
JOINING_S = 1.0
"""Until the heartbeat of a member tells it to join again, and it has asked."""


def test_what_another_member_had_in_between_is_given_up(tmp_path: Path) -> None:
    readings = walk(8, 20.0, batch=8)
    third = len(readings) // 3
    with Site(tmp_path / "broker") as site:
        topics = TopicSet.create(site.broker.bootstrap)
        behind_proxy = {**SHORT, "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": site.proxied}
        with (
            RunProcess(topics, tmp_path, "dropped", **behind_proxy) as dropped,
            RunProcess(topics, tmp_path, "frozen", **LONGER) as frozen,
        ):
            for run in (dropped, frozen):
                run.wait_for_log("partition started")
            topics.produce(readings[:third])
            topics.wait_consumed()
            # All others wait for it.
            frozen.send(signal.SIGSTOP)
            with RunProcess(topics, tmp_path, "other", **LONGER) as other:
                wait_until(
                    "a rebalance",
                    lambda: (
                        topics.describe_group().state is ConsumerGroupState.PREPARING_REBALANCING
                    ),
                )
                time.sleep(JOINING_S)
                site.proxy.refuse()
                site.broker.kill()
                frozen.kill()
                site.broker.start()
                topics.produce(readings[third : 2 * third])
                topics.wait_consumed()
                site.proxy.accept()
                topics.produce(readings[2 * third :])
                # Which of the two depends on whether it asks to join before it sends a heartbeat.
                wait_until(
                    "partitions are given up",
                    lambda: any(text in dropped.log.read_text() for text in GIVEN_UP),
                )
                topics.wait_consumed()
                assert dropped.terminate() == 0
                assert other.terminate() == 0
        events = topics.read_events()
    sent: dict[bytes, list[bytes]] = {}
    for key, value in readings:
        sent.setdefault(key, []).append(value)
    expected, found = expected_steps(sent), by_device(events)
    wrong = {
        device: difference(expected[device], found.get(device, []))
        for device in expected
        if expected[device] != found.get(device)
    }
    assert not wrong
    assert len({event["event_id"] for event in events}) == len(events)
