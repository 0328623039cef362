"""docker-compose.yml, really up; ``make compose-test`` runs these."""

from __future__ import annotations

import json
import re
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import encode
from tests.conftest import missing
from tests.deploy import composed, containers
from tests.deploy.composed import Composed
from tests.kafka.builders import wait_until
from tests.web.test_server import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.image, pytest.mark.timeout(1500)]
WITHIN_S = 180


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    tool = composed.missing_tool()
    if tool:
        missing(f"{tool}, to run docker-compose.yml")
    folder = tmp_path_factory.mktemp("compose")
    made = Composed(folder)
    composed.make_images(folder, containers.make_base(folder), made.services)
    try:
        made.up(WITHIN_S)
        yield made
    finally:
        made.down()


def tail(everything: Composed, consumer: str, *arguments: str) -> list[dict[str, Any]]:
    """Steps as `stepstream tail` in a consumer's container shows them."""
    printed = everything.podman(
        "exec", consumer, "stepstream", "tail", "--json", "--max", "20", *arguments
    )
    return [json.loads(line) for line in printed.splitlines()]


def test_services_get_healthy_and_steps_come_out(everything: Composed) -> None:
    (kafka,) = everything.names("kafka")
    (prometheus,) = everything.names("prometheus")
    consumers = everything.names("consumer")
    assert len(consumers) == 2
    (serving,) = everything.names("serve")
    for name in (kafka, prometheus, serving, *consumers):
        wait_until(f"{name} to be healthy", partial(everything.is_healthy, name), WITHIN_S)
    steps = tail(everything, consumers[0])
    assert len(steps) == 20
    assert all(step["value"]["step_count"] > 0 for step in steps)
    assert everything.names("topics") == []


def test_the_profile_serve_answers_at_its_port(everything: Composed) -> None:
    assert everything.names("serve")
    _, walked, steps = walk(20)
    with closing(HTTPConnection("localhost", 8090, timeout=30)) as connection:
        connection.request(
            "POST", "/v1/detect", encode(walked), {"Content-Type": "application/json"}
        )
        answer = json.loads(connection.getresponse().read())
    assert len(answer["steps"]) == pytest.approx(steps, abs=2)


def test_more_consumers_share_the_partitions(everything: Composed) -> None:
    everything.call("up", "--detach", "--scale", "consumer=4", "--no-recreate", "consumer")
    consumers = everything.names("consumer")
    assert len(consumers) == 4

    def running() -> list[int]:
        """Partitions that each consumer runs."""
        pages = [everything.ask(name, "http://localhost:8080/metrics") for name in consumers]
        found = [
            re.findall(r'stepstream_partitions\{.*phase="running".*\} (\d+)', p) for p in pages
        ]
        return [sum(map(int, counts)) for counts in found]

    wait_until("a partition for each", lambda: running() == [1, 1, 1, 1], WITHIN_S)


def test_prometheus_has_every_consumer_and_the_rules(everything: Composed) -> None:
    (prometheus,) = everything.names("prometheus")
    consumers = everything.names("consumer")

    def targets() -> list[str]:
        answer = json.loads(everything.ask(prometheus, "http://localhost:9090/api/v1/targets"))
        return [
            target["health"]
            for target in answer["data"]["activeTargets"]
            if target["labels"]["job"] == "stepstream"
        ]

    wait_until("all targets", lambda: targets() == ["up"] * len(consumers), WITHIN_S)
    rules = json.loads(everything.ask(prometheus, "http://localhost:9090/api/v1/rules"))
    groups = rules["data"]["groups"]
    alerts = [rule["name"] for group in groups for rule in group["rules"]]
    assert "StepstreamDown" in alerts
    assert all(rule["health"] in {"ok", "unknown"} for group in groups for rule in group["rules"])


def test_down_leaves_nothing(everything: Composed) -> None:
    everything.down()
    assert list(everything.left()) == []
