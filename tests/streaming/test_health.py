from __future__ import annotations

from dataclasses import replace

import pytest

from stepstream.streaming.health import Health

WELL = Health(
    fatal_error="",
    turn_age_s=0.1,
    stuck_after_s=60.0,
    is_member=True,
    is_waiting=False,
    has_topics=True,
    is_connected=True,
    preparing=0,
    refused=0,
    held=0,
    waiting=0,
    is_backpressured=False,
    uncommitted_s=0.2,
    uncommitted_after_s=30.0,
)


def test_nothing_keeps_a_healthy_consumer_from_being_ready() -> None:
    assert (WELL.is_live, WELL.is_ready, WELL.obstacles) == (True, True, [])


@pytest.mark.parametrize(
    ("change", "is_live", "said"),
    [
        ({"turn_age_s": 60.0}, False, "the loop is stuck"),
        ({"fatal_error": "fenced"}, False, "fatal error of the Kafka client: fenced"),
        ({"is_member": False}, True, "not a member of the group"),
        ({"is_waiting": True}, True, "waits for its first partitions"),
        ({"is_connected": False}, True, "no connection to a broker"),
        ({"preparing": 3}, True, "3 partitions are being prepared"),
        ({"held": 1}, True, "1 partitions are paused for too many dead letters"),
        ({"is_backpressured": True}, True, "reading is paused until results are published"),
        ({"uncommitted_s": 31.0}, True, "nothing was committed for 31 s"),
    ],
)
def test_each_obstacle_is_named_and_only_some_call_for_a_restart(
    change: dict[str, object], is_live: bool, said: str
) -> None:
    health = replace(WELL, **change)  # type: ignore[arg-type]
    assert (health.is_live, health.is_ready, health.obstacles) == (is_live, False, [said])
