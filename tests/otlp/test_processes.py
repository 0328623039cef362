"""``stepstream serve`` as a process that pushes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.kafka.broker import free_port
from tests.kafka.builders import wait_until
from tests.otlp.receiver import receiving
from tests.web.serving import metrics, serving
from tests.web.test_serving import body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.otlp.receiver import Receiver
    from tests.web.serving import Serving

SECRET = "3c9d2f7a1b"  # noqa: S105 - made up
ANSWERED = {"route": "/v1/detect", "status": "200"}


def environment(endpoint: str) -> Mapping[str, str]:
    return {
        "STEPSTREAM_OTLP__ENDPOINT": endpoint,
        "STEPSTREAM_OTLP__HEADERS": json.dumps({"authorization": f"Bearer {SECRET}"}),
        "STEPSTREAM_OTLP__RESOURCE_ATTRIBUTES": json.dumps({"site": "lab", "floor": 2}),
        "STEPSTREAM_OTLP__INTERVAL_S": "3600",
        # It logs what it does, headers too.
        "STEPSTREAM_LOGGING__LEVEL": "debug",
    }


def log_of(server: Serving) -> str:
    assert server.stop() == 0
    assert server.process.stderr is not None
    return server.process.stderr.read()


def detect(server: Serving, times: int) -> None:
    for _ in range(times):
        assert server.ask("/v1/detect", body(0, 128)).status == 200


def test_the_last_push_has_what_was_counted_until_the_end() -> None:
    with receiving() as receiver, serving(**environment(receiver.endpoint)) as server:
        wait_until("a push", lambda: receiver.pushes)
        detect(server, 3)
        log = log_of(server)
        first, last = receiver.pushes
        assert first.value("stepstream_build_info", **labels_of(receiver)) == 1
        assert last.value("stepstream_http_requests_total", **ANSWERED) == 3
        assert last.value("stepstream_otlp_failures_total") == 0
        assert last.headers["authorization"] == f"Bearer {SECRET}"
        assert last.resource["service.instance.id"].endswith(f":{server.port}")
        assert last.resource.items() >= {"site": "lab", "floor": 2}.items()
    assert SECRET not in log
    assert "can't be pushed" not in log


def ready(server: Serving) -> Mapping[str, float]:
    return metrics(server.ask("/metrics").body, "stepstream_ready")


def labels_of(receiver: Receiver) -> dict[str, str]:
    (point,) = receiver.pushes[0].metrics["stepstream_build_info"].gauge.data_points
    return {one.key: one.value.string_value for one in point.attributes}


@pytest.mark.slow
def test_one_parent_pushes_for_all_workers_until_they_stop() -> None:
    with (
        receiving() as receiver,
        serving("--workers", "2", **environment(receiver.endpoint)) as server,
    ):
        wait_until("a push", lambda: receiver.pushes)
        wait_until("ready workers", lambda: sum(ready(server).values()) == 2)
        detect(server, 8)
        log = log_of(server)
        last = receiver.pushes[-1]
        assert len(receiver.pushes) == 2
        points = last.metrics["stepstream_http_requests_total"].sum.data_points
        found = [{one.key: one.value.string_value for one in point.attributes} for point in points]
        counts = [
            point.as_double
            for point, labels in zip(points, found, strict=True)
            if labels["route"] == "/v1/detect"
        ]
        assert sum(counts) == 8
        assert {labels["worker"] for labels in found} == {"0", "1"}
        for worker in "01":
            assert last.value("stepstream_ready", worker=worker) == 1
        assert last.value("stepstream_otlp_failures_total", worker="parent") == 0
    assert SECRET not in log


def test_a_receiver_that_is_away_does_no_harm() -> None:
    away = f"http://127.0.0.1:{free_port()}"
    with serving(**{**environment(away), "STEPSTREAM_OTLP__INTERVAL_S": "1"}) as server:

        def failures() -> float:
            page = server.ask("/metrics").body
            return metrics(page, "stepstream_otlp_failures_total")[""]

        wait_until("failures", lambda: failures() >= 2)
        detect(server, 1)
        begin_s = time.monotonic()
        log = log_of(server)
        # A second of it is the server's own.
        assert time.monotonic() - begin_s < 4
    (line,) = (line for line in log.splitlines() if "can't be pushed" in line)
    assert "WARNING" in line
    assert away in line
    assert SECRET not in log
