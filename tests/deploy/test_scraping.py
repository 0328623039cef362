"""A real Prometheus reads a real consumer on a real broker: every query finds something."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING

import pytest

from stepstream.memory_limit import memory_limit_bytes
from tests.conftest import missing
from tests.deploy import prometheus
from tests.deploy.prometheus import Prometheus
from tests.deploy.queries import inner_vectors, panel_queries, rules
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.test_run import broken_messages, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.kafka
OF_LIMIT = re.compile(r"stepstream_memory(_limit_bytes|:ratio)")


@pytest.fixture
def scraped(topics: TopicSet, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that has seen a consumer before and after it had work."""
    tool = prometheus.missing_tool()
    if tool:
        missing(f"{tool} (Debian's package prometheus)")
    port = free_port()
    with (
        # Two workers, so that there are the series of their parent, too.
        RunProcess(topics, tmp_path, STEPSTREAM_HTTP__PORT=str(port), STEPSTREAM_WORKERS="2"),
        Prometheus(tmp_path, [f"127.0.0.1:{port}"]) as server,
    ):
        wait_until("a consumer that is ready", lambda: server.values("stepstream_ready == 1"))
        broken = [(key, value) for key, value, _ in broken_messages() if len(value or b"") < 1e5]
        topics.produce([*walk(4, 12.0, batch=5), *broken])
        topics.wait_consumed()
        yield server


def test_every_rule_and_every_panel_finds_data(scraped: Prometheus) -> None:
    wanted = set(panel_queries())
    for rule in rules():
        wanted.update(inner_vectors(rule["expr"]))
    if math.isnan(memory_limit_bytes()):  # nothing limits it here
        wanted = {query for query in wanted if not OF_LIMIT.search(query)}
    for query in sorted(wanted):
        wait_until(f"data for {query}", partial(scraped.values, query))
    evaluated = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in evaluated if rule["health"] != "ok"] == []
    assert len(evaluated) == len(rules())
