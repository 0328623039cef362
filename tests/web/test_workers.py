"""What the parent of workers serves; they are consumers in this process, without a broker."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stepstream.inputs import MAX_DEVICE_ID_BYTES
from stepstream.metrics import PROCESS_METRICS
from stepstream.metrics.consumer import METRICS
from stepstream.otlp.failures import PushFailures
from stepstream.streaming.partitioning import partition_of
from stepstream.web import page as page_module
from stepstream.web.server import Server
from stepstream.web.traffic import HTTP_METRICS
from stepstream.web.workers import app as app_module
from stepstream.web.workers.app import WorkersApp
from stepstream.web.workers.clients import Client
from stepstream.web.workers.devices import WorkerDevices
from stepstream.web.workers.metrics import WORKER_METRICS
from stepstream.web.workers.samples import merge_samples, merge_states
from stepstream.workers.reports import Report
from tests.builders import encode, reading
from tests.kafka.builders import wait_until
from tests.web.builders import (
    DATA_OF_PAGE,
    PARTITIONS,
    request,
    settings,
)
from tests.web.served_workers import WORKERS, Front, served_workers
from tests.web.test_server import TOKEN, walk
from tests.workers.builders import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with served_workers(settings(token=TOKEN, cors_origins="https://ops.example.org")) as made:
        yield made


def ask(front: Front, path: str, body: bytes | None = None) -> Any:
    return request(front.server, path, body, Authorization=f"Bearer {TOKEN}")


def test_every_metric_of_every_worker_has_its_number(front: Front) -> None:
    answer = request(front.server, "/metrics")
    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    names = [
        *(metric.name for metric in METRICS),
        *(metric.name for metric in HTTP_METRICS),
        *(metric.name for metric in WORKER_METRICS),
        PushFailures.name,
        *PROCESS_METRICS,
    ]
    assert families.keys() == {name.removesuffix("_total") for name in names}
    assert len(families) == len(names)
    for name in PROCESS_METRICS:
        samples = families[name.removesuffix("_total")].samples
        labels = {sample.labels["worker"] for sample in samples}
        assert labels - {"parent"} == {"0", "1"}, name
    readings = {s.labels["worker"]: s.value for s in families["stepstream_readings"].samples}
    wait_until("readings", lambda: front.consumers[0].totals.readings)
    assert readings.keys() == {"0", "1"}
    (waiting,) = [
        sample.value
        for sample in families["stepstream_workers"].samples
        if sample.labels == {"state": "running"}
    ]
    assert waiting == WORKERS


def test_openmetrics_is_spoken_to_who_asks_for_it(front: Front) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    answer = request(front.server, "/metrics", Accept=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert b"# TYPE stepstream_model info" in answer.body


def test_readiness_names_the_worker_and_liveness_is_the_parents(front: Front) -> None:
    world = front.world
    assert request(front.server, "/readyz")[::2] == (200, b"ready\n")
    world.steady = {0}
    try:
        world.say(1, Report(is_live=False, obstacles=["the loop is stuck", "no partition"]))
        answer = request(front.server, "/readyz")
        expected = b"not ready: worker 1: the loop is stuck; no partition\n"
        assert answer[::2] == (503, expected)
        assert request(front.server, "/livez").status == 200
        world.now_s += app_module.LIVE_S + 1
        assert request(front.server, "/livez").status == 503
    finally:
        world.steady = set(range(WORKERS))
        world.pass_time(1)
    assert request(front.server, "/livez").status == 200


def test_the_owner_of_a_device_answers_for_it(front: Front) -> None:
    def walked() -> Any:
        answer = ask(front, "/v1/devices/walker-1")
        return answer if answer.status == 200 and answer.json["step_count"] else None

    found = wait_until("a step", walked, 30).json
    assert found["partition"] == 0
    listed = ask(front, "/v1/devices?prefix=walker-").json["devices"]
    assert sorted(device["device_id"] for device in listed) == ["walker-0", "walker-1", "walker-2"]
    for number in range(PARTITIONS):
        name = next(f"d/{n}" for n in range(99) if partition_of(b"d/%d" % n, PARTITIONS) == number)
        answer = ask(front, f"/v1/devices/{name}")
        assert (answer.status, answer.json["error"]) == (404, "unknown-device")
        assert answer.json["partitions"][0]["partition"] == number
    assert ask(front, f"/v1/devices/{'x' * 300}").json["error"] == "invalid-device-id"
    assert ask(front, "/v1/devices/a?topic=b").json["error"] == "unknown-topic"
    hour = ask(front, "/v1/activity/walker-1?topic=sensor-readings")
    assert (hour.status, hour.json["topic"]) == (200, "sensor-readings")
    assert ask(front, "/v1/activity/a?topic=b").json["error"] == "unknown-topic"
    assert page_module.MAX_DEVICE_ID_BYTES == MAX_DEVICE_ID_BYTES


def test_detection_is_shared_out_in_turn(front: Front) -> None:
    _, batch, true_steps = walk(20)
    answers = [ask(front, "/v1/detect", encode(batch)) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json
    assert len(answers[0].json["steps"]) == pytest.approx(true_steps, rel=0.2)
    answer = ask(front, "/v1/detect", encode(reading(accel_x=None)))
    assert (answer.status, answer.json["error"]) == (422, "missing-field")


def test_too_much_for_the_workers_is_refused(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * (app_module.MAX_BODY_BYTES + 1)
    assert ask(front, "/v1/detect", body).status == 413
    monkeypatch.setattr(app_module, "MAX_DETECTING", 0)
    answer = ask(front, "/v1/detect", b"{}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_the_parent_sees_to_who_may_ask(front: Front) -> None:
    for path in ("/v1/devices/a", "/v1/activity/a", "/performance", *DATA_OF_PAGE[:6]):
        assert request(front.server, path).status == 401, path
    allowed = request(
        front.server, "/v1/devices", Origin="https://ops.example.org",
        Authorization=f"Bearer {TOKEN}",
    )  # fmt: skip
    assert allowed.headers["access-control-allow-origin"] == "https://ops.example.org"
    assert allowed.headers["x-content-type-options"] == "nosniff"
    packed = request(front.server, "/metrics", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"


def test_workers_that_do_not_answer_are_left_out() -> None:
    world = World(WORKERS)
    made_with = settings()
    app = WorkersApp(made_with, world.supervisor, [Path("none-0.sock"), Path("none-1.sock")])
    with Server(made_with.http, app) as server:
        assert request(server, "/v1/devices").status == 503
        assert request(server, "/v1/devices/a").status == 503
        assert request(server, "/v1/detect", b"{}").status == 503
        answer = request(server, "/metrics")
        assert answer.status == 200
        assert b'stepstream_workers{state="starting"} 2.0' in answer.body
        assert b'stepstream_ready{worker="1"} 0.0' in answer.body
        assert b"worker 0: it is starting" in request(server, "/readyz").body


def test_a_device_is_followed_where_it_is_owned(front: Front) -> None:
    async def follow(device: str) -> list[bytes]:
        clients = [Client(n, path) for n, path in enumerate(front.paths)]
        given: list[bytes] = []
        async with aclosing(
            WorkerDevices(clients).follow(device, None, lambda: len(given) >= 4)
        ) as events:
            async for event in events:
                given.append(event)
                if device == "nobody":
                    break
        await asyncio.gather(*(client.close() for client in clients))
        return given

    wait_until("a reading", lambda: front.consumers[0].totals.readings)
    events = asyncio.run(asyncio.wait_for(follow("walker-1"), 30))
    assert any(event.startswith(b"event: signal\n") for event in events)
    assert all(event.endswith(b"\n\n") for event in events)
    for event in events:
        json.loads(event.split(b"data: ")[1])
    assert asyncio.run(asyncio.wait_for(follow("nobody"), 30))[0].startswith(b"event: alive\n")
    wait_until("nobody watching", lambda: len(front.consumers[0].watchers) == 1, 20)


def test_samples_add_up_and_percentiles_are_the_largest() -> None:
    none: dict[str, Any] = dict.fromkeys(
        ("batch", "inference", "inference_p95", "broker_p50", "broker_p95", "reading_p50",
         "reading_p95")
    )  # fmt: skip
    numbers = dict.fromkeys(
        ("readings", "events", "messages", "dead_letters", "late", "cpu", "lag", "memory",
         "devices", "outbox"), 2.0,
    )  # fmt: skip
    first = {"time": 1.0, **none, **numbers, "busy": 0.5, "lag_s": 3.0}
    second = {**first, "broker_p95": 0.2, "busy": 0.7, "lag_s": 1.0}
    merged = merge_samples([first, second])
    assert {name: merged[name] for name in numbers} == dict.fromkeys(numbers, 4.0)
    assert (merged["broker_p95"], merged["busy"], merged["lag_s"]) == (0.2, 0.7, 3.0)
    assert merged["broker_p50"] is None


def test_states_keep_partitions_with_their_worker(front: Front) -> None:
    states = {}
    for worker, path in enumerate(front.paths):

        async def ask_one(worker: int = worker, path: Path = path) -> Any:
            client = Client(worker, path)
            answer = await client.ask("/performance/sample")
            await client.close()
            return json.loads(answer.body) if answer else None

        def sampled(ask_one: Any = ask_one) -> Any:
            found = asyncio.run(ask_one())
            return found if found["sample"] else None

        states[worker] = wait_until("a sample", sampled)["state"]
    merged = merge_states(states, {0: [], 1: ["it is starting"]})
    assert merged.keys() == states[0].keys()
    assert [(p["partition"], p["worker"]) for p in merged["partitions"]] == [
        (0, 0), (1, 1), (2, 1), (3, 1),
    ]  # fmt: skip
    assert merged["obstacles"] == ["worker 1: it is starting"]
    assert merged["model"] == states[0]["model"]
