"""The group as the page shows it, described by a real broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_all_members_are_shown_with_their_partitions(
    bootstrap: str, tmp_path: Path, protocol: str
) -> None:
    topics = TopicSet.create(bootstrap)
    ports = free_port(), free_port()
    runs = [
        RunProcess(
            topics, tmp_path, name,
            STEPSTREAM_HTTP__PORT=str(port), STEPSTREAM_KAFKA__GROUP_PROTOCOL=protocol,
        )
        for name, port in zip("ab", ports, strict=True)
    ]  # fmt: skip

    def described() -> Any:
        if not all(run.is_alive for run in runs):
            pytest.fail(runs[0].log.read_text())
        try:
            status, body = fetch(ports[0], "/performance/group")
        except OSError:
            return None
        found = json.loads(body)
        is_shared = status == 200 and [m["count"] > 0 for m in found["members"]] == [True, True]
        return found if is_shared else None

    try:
        found = wait_until("two members", described)
        assert (found["group"], found["count"]) == (topics.group, 2)
        assert all(member["host"] == "127.0.0.1" for member in found["members"])
        own = {}
        for name, port in zip("ab", ports, strict=True):
            state = json.loads(fetch(port, "/performance/sample")[1])["state"]
            (one,) = state["consumers"]
            assert one["name"] == f"{topics.group}-{name}"
            own[one["member_id"]] = len(state["partitions"])
        assert {m["member_id"]: m["count"] for m in found["members"]} == own
        names = [member["partitions"] for member in found["members"]]
        assert all(topics.readings in name for name in names)
    finally:
        for run in runs:
            run.kill()
