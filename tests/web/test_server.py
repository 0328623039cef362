from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import jsonschema
import msgspec
import numpy as np
import pytest
from confluent_kafka import KafkaError
from pydantic import SecretStr
from starlette.requests import Request
from starlette.routing import Route

from stepstream.detection import Model, default_model_path
from stepstream.errors import SettingsError
from stepstream.inputs import ErrorCode
from stepstream.schemas import output_schema
from stepstream.settings import HttpSettings, InputSettings, TopicSettings
from stepstream.simulation.walkers import Walker
from stepstream.streaming.partitioning import partition_of
from stepstream.web import access as access_module
from stepstream.web import detection
from stepstream.web import protocol as protocol_module
from stepstream.web import server as server_module
from stepstream.web.access import Access
from stepstream.web.app import make_app
from stepstream.web.batches import Bounds
from stepstream.web.page import Page
from stepstream.web.protocol import MAX_HEADER_BYTES
from stepstream.web.routing import make_asgi
from stepstream.web.sampling import Sampler
from stepstream.web.server import Server
from stepstream.web.timeline import Timeline
from stepstream.web.traffic import Traffic
from stepstream.web.watching import Watches
from tests.builders import FIELDS, encode, reading
from tests.conftest import ROOT
from tests.kafka.builders import wait_until
from tests.web.builders import (
    DATA_OF_PAGE,
    PARTITIONS,
    TOPIC,
    Answer,
    Callbacks,
    Clock,
    consumer_without_broker,
    own,
    request,
    serve,
    settings,
    turning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import StreamingResponse

    from stepstream.settings import OutputKind
    from stepstream.streaming.consumer import Consumer
    from tests.web.builders import Hour

TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of the tests
ACTIVITY = "/v1/activity/{device_id}"
OPENAPI = json.loads((ROOT / "stepstream/web/static/openapi.json").read_text())


@pytest.fixture(scope="module")
def consumer() -> Iterator[Consumer]:
    """A consumer of partition 0 whose loop turns; no broker is there."""
    with consumer_without_broker(model=Model(default_model_path())) as made:
        own(made, 0)
        with turning(made, devices=3):
            yield made


@pytest.fixture(scope="module")
def server(consumer: Consumer) -> Iterator[Server]:
    with serve(settings(cors_origins="https://ops.example.org"), consumer) as made:
        yield made


@pytest.fixture(scope="module")
def active() -> Iterator[Server]:
    """A server of a consumer that publishes minutes and walks."""
    made_with = settings(topics=TopicSettings(minutes="step-minutes", walks="step-walks"))
    with consumer_without_broker(made_with, Model(default_model_path())) as made:
        own(made, 0)
        with turning(made, devices=1), serve(made_with, made) as server:
            yield server


def conforms(answer: Answer, path: str, method: str = "get") -> Any:
    """The answer's content, once it is found to be what the OpenAPI document says."""
    responses = OPENAPI["paths"][path][method]["responses"]
    assert str(answer.status) in responses, f"{answer.status} is not documented for {path}"
    response = responses[str(answer.status)]
    if "$ref" in response:
        response = OPENAPI["components"]["responses"][response["$ref"].rpartition("/")[2]]
    (media_type, content), *_ = response["content"].items()
    assert answer.headers["content-type"].startswith(media_type)
    schema = {**content["schema"], "components": OPENAPI["components"]}
    jsonschema.validate(answer.json, schema, jsonschema.Draft202012Validator)
    return answer.json


def test_a_consumer_that_has_not_joined_is_live_and_says_why_it_is_not_ready() -> None:
    made_with = settings()
    with consumer_without_broker(made_with) as idle, serve(made_with, idle) as server:
        assert request(server, "/livez")[::2] == (200, b"live\n")
        answer = request(server, "/readyz")
        assert answer.status == 503
        assert b"not a member of the group" in answer.body
        idle.membership.note_assigned()
        own(idle, 0)
        assert request(server, "/readyz")[::2] == (200, b"ready\n")
        idle.statistics["consumer"].update('{"brokers": {"a": {"state": "DOWN"}}}')
        assert b"no connection to a broker" in request(server, "/readyz").body


def test_a_stuck_loop_and_a_fatal_client_error_end_liveness() -> None:
    made_with = settings()
    callbacks, clock = Callbacks(made_with), Clock()
    with (
        consumer_without_broker(made_with, connections=callbacks, system=clock) as idle,
        serve(made_with, idle) as server,
    ):
        clock.ahead_s = 3_600.0
        assert request(server, "/livez").status == 503
        clock.ahead_s = 0.0
        assert request(server, "/livez").status == 200
        callbacks.on_error(KafkaError(KafkaError._FATAL, "fenced", fatal=True))
        assert request(server, "/livez").status == 503


def test_an_unknown_path_is_answered_in_json(server: Server) -> None:
    answer = request(server, "/else")
    assert answer.status == 404
    assert answer.json["error"] == "not-found"


def test_a_device_is_answered_with_count_and_window(server: Server, consumer: Consumer) -> None:
    def walked() -> Any:
        answer = request(server, "/v1/devices/walker-1")
        return answer if answer.status == 200 and answer.json["step_count"] else None

    found = conforms(wait_until("a step", walked, 30), "/v1/devices/{device_id}")
    assert (found["topic"], found["partition"]) == (TOPIC, 0)
    assert found["window"]["is_full"]
    assert 0.2 < found["window"]["last_reading_at"] - found["last_step"]["ended_at"] < 3
    assert found["open_minute"] is None
    assert found["open_walk"] is None
    listed = conforms(request(server, "/v1/devices?prefix=walker-"), "/v1/devices")
    names = sorted(device["device_id"] for device in listed["devices"])
    assert names == ["walker-0", "walker-1", "walker-2"]
    assert not request(server, "/v1/devices?prefix=else").json["devices"]
    assert consumer.totals.events > 0


def test_a_device_is_answered_with_its_open_minute_and_walk(active: Server) -> None:
    def walked() -> Any:
        answer = request(active, "/v1/devices/walker-0?topic=sensor-readings")
        return answer if answer.status == 200 and answer.json["step_count"] > 1 else None

    found = conforms(wait_until("two steps", walked, 30), "/v1/devices/{device_id}")
    minute, walk = found["open_minute"], found["open_walk"]
    assert 0 < minute["steps"] <= found["step_count"]
    begin_s = datetime.fromisoformat(minute["minute"]).timestamp()
    assert begin_s <= found["last_step"]["ended_at"] < begin_s + 60
    assert walk["ended_at"] == found["last_step"]["ended_at"]
    assert walk["walk_id"].startswith("sensor-readings-0-")
    assert minute["model"] == walk["model"] == Model(default_model_path()).metadata.label


@pytest.mark.parametrize("kind", ["minute", "walk"])
def test_the_document_has_open_groups_as_they_are_published(kind: OutputKind) -> None:
    described = OPENAPI["components"]["schemas"][kind.capitalize()]
    published = output_schema(kind)
    for name in ("type", "properties", "required"):
        assert described[name] == published[name]


def test_the_last_hour_is_null_where_nothing_is_published(server: Server) -> None:
    found = conforms(request(server, "/v1/activity/walker-1"), ACTIVITY)
    assert abs(found.pop("now") - time.time()) < 5
    assert found == {"topic": None, "minutes": None, "walks": None, "is_whole": True}
    for path in ("/v1/activity/", f"/v1/activity/{'x' * 257}", "/performance/activity"):
        found = conforms(request(server, path), ACTIVITY)
        assert found["error"] == "invalid-device-id"
    found = conforms(request(server, "/v1/activity/walker-1?topic=b"), ACTIVITY)
    assert found["error"] == "unknown-topic"


def test_the_last_hour_is_that_of_the_device_in_one_topic(hour: Hour) -> None:
    def steps(path: str) -> tuple[str, list[int], int]:
        found = conforms(request(hour.server, path), ACTIVITY)
        walks = found["walks"]
        return found["topic"], [minute["steps"] for minute in found["minutes"]], len(walks)

    assert steps("/v1/activity/walker-9?topic=watches") == ("watches", [5], 0)
    topic, of_minutes, walks = steps(f"/v1/activity/walker-9?topic={TOPIC}")
    assert (topic, len(of_minutes), walks) == (TOPIC, 28, 3)
    # Not of both together: of that with the latest record.
    for path in ("/v1/activity/walker-9", "/performance/activity?device=walker-9"):
        assert steps(path) == (topic, of_minutes, walks)


def test_the_last_hour_of_brokers_that_are_away_is_not_known(active: Server) -> None:
    answer = request(active, "/v1/activity/walker-1")
    conforms(answer, ACTIVITY)
    assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "30"


def test_looks_at_the_last_hour_are_bounded(active: Server) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: request(active, f"/v1/activity/walker-{n}"), range(8)))
    assert {answer.status for answer in answers} == {503}
    assert sum(answer.json["error"] == "busy" for answer in answers) >= 3


def test_a_device_of_elsewhere_is_answered_with_its_partition(server: Server) -> None:
    elsewhere = next(f"d-{n}" for n in range(99) if partition_of(b"d-%d" % n, PARTITIONS) == 3)
    here = next(f"d-{n}" for n in range(99) if partition_of(b"d-%d" % n, PARTITIONS) == 0)
    answer = request(server, f"/v1/devices/{elsewhere}")
    found = conforms(answer, "/v1/devices/{device_id}")
    assert (answer.status, found["error"]) == (404, "not-owned")
    assert found["partitions"] == [{"topic": TOPIC, "partition": 3}]
    answer = request(server, f"/v1/devices/{here}")
    found = conforms(answer, "/v1/devices/{device_id}")
    assert (answer.status, found["error"]) == (404, "unknown-device")
    answer = request(server, f"/v1/devices/{'x' * 300}")
    assert conforms(answer, "/v1/devices/{device_id}")["error"] == "invalid-device-id"
    assert request(server, "/v1/devices/a?topic=b").json["error"] == "unknown-topic"


def test_a_loop_that_does_not_turn_is_said_to_be_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stepstream.web.devices.ASK_TIMEOUT_S", 0.1)
    made_with = settings()
    with consumer_without_broker(made_with) as idle, serve(made_with, idle) as server:
        answer = request(server, "/v1/devices/walker-1")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"


def walk(seconds: float) -> tuple[list[dict[str, float]], dict[str, list[float]], int]:
    """A walk as single readings and as one batch, and its true steps."""
    walker = Walker(5, 80.0)
    time_s, axes = walker.read(seconds)
    stamps = (1_700_000_000 + time_s).round(6).tolist()
    singles = [
        {"timestamp": stamp, **dict(zip(FIELDS, row, strict=True))}
        for stamp, row in zip(stamps, axes.tolist(), strict=True)
    ]
    batch = {"timestamp": stamps, **dict(zip(FIELDS, axes.T.tolist(), strict=True))}
    return singles, batch, len(walker.steps_until(seconds))


def test_readings_in_either_form_give_the_steps(server: Server) -> None:
    singles, batch, true_steps = walk(30)
    answers = [
        conforms(request(server, "/v1/detect", encode(body)), "/v1/detect", "post")
        for body in (singles, batch, [{**batch, "device_id": "phone"}])
    ]
    assert answers[0] == answers[1]
    assert answers[2]["device_id"] == answers[2]["steps"][0]["device_id"] == "phone"
    assert answers[0]["readings"] == len(singles)
    found = answers[0]["steps"]
    assert len(found) == pytest.approx(true_steps, rel=0.15)
    assert [step["step_count"] for step in found] == list(range(1, len(found) + 1))
    assert np.all(np.diff([step["ended_at"] for step in found]) > 0)
    assert not conforms(request(server, "/v1/detect", encode(reading())), "/v1/detect", "post")[
        "steps"
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"not json", ErrorCode.INVALID_JSON),
        (b"[", ErrorCode.INVALID_JSON),
        (b"[]", ErrorCode.TOO_MANY_READINGS),
        (b"", ErrorCode.INVALID_JSON),
        (encode(reading(accel_x=None)), ErrorCode.MISSING_FIELD),
        (encode([reading(), reading(accel_x=1e9)]), ErrorCode.OUT_OF_RANGE),
        (encode([reading(device_id="a"), reading(device_id="b")]), ErrorCode.KEY_MISMATCH),
        (encode(reading(device_id="x" * 300)), ErrorCode.INVALID_DEVICE_ID),
        (encode({name: [1.0] * 10_001 for name in reading()}), ErrorCode.TOO_MANY_READINGS),
    ],
)
def test_what_is_wrong_with_readings_is_answered(
    server: Server, body: bytes, error: ErrorCode
) -> None:
    answer = request(server, "/v1/detect", body)
    problem = conforms(answer, "/v1/detect", "post")
    assert (answer.status, problem["error"]) == (422, error)
    assert problem["detail"]


def test_readings_are_taken_as_the_topic_takes_them(consumer: Consumer) -> None:
    singles, _, _ = walk(30)
    with serve(settings(), consumer) as server:
        plain = conforms(request(server, "/v1/detect", encode(singles)), "/v1/detect", "post")
    packed = InputSettings(
        format="msgpack", readings="data", device_id="header:Device-Id", key="int32"
    )
    body = msgspec.msgpack.encode({"data": singles})
    with serve(settings().model_copy(update={"input": packed}), consumer) as server:
        answer = request(server, "/v1/detect", body, Device_Id="phone")
        found = conforms(answer, "/v1/detect", "post")
        refused = conforms(request(server, "/v1/detect", body), "/v1/detect", "post")
    assert found["device_id"] == "phone"
    assert refused["error"] == ErrorCode.MISSING_KEY
    ends = [[step["ended_at"] for step in one["steps"]] for one in (plain, found)]
    assert ends[0] == ends[1]
    assert ends[0]


def test_sensors_may_send_apart(consumer: Consumer) -> None:
    singles, _, _ = walk(30)
    with serve(settings(), consumer) as server:
        joined = conforms(request(server, "/v1/detect", encode(singles)), "/v1/detect", "post")
    paths = {f"{sensor}_{axis}": f"values.{axis}" for sensor in ("accel", "gyro") for axis in "xyz"}
    split = InputSettings(
        readings="items",
        fields={"timestamp": "at", **paths},
        sensor={"path": "of", "accelerometer": "accel", "gyroscope": "gyro"},
    )
    items = [
        {
            "of": sensor,
            "at": one["timestamp"],
            "values": {axis: one[f"{sensor}_{axis}"] for axis in "xyz"},
        }
        for sensor in ("accel", "gyro")
        for one in singles
    ]
    with serve(settings().model_copy(update={"input": split}), consumer) as server:
        answer = request(server, "/v1/detect", encode({"items": items}))
        found = conforms(answer, "/v1/detect", "post")
    assert found["readings"] == 2 * len(singles)
    assert found["steps"] == joined["steps"] != []


def test_a_body_beyond_the_limit_and_too_many_requests_are_refused(
    server: Server, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = request(server, "/v1/detect", b"x" * (detection.MAX_BODY_BYTES + 1))
    assert conforms(answer, "/v1/detect", "post")["error"] == ErrorCode.TOO_LARGE
    assert answer.status == 413
    monkeypatch.setattr("stepstream.web.app.BESIDE_THE_LOOP", Bounds(0, 1 << 20))
    with serve(settings(), consumer) as full:
        answer = request(full, "/v1/detect", b"{}")
    assert conforms(answer, "/v1/detect", "post")["error"] == "busy"
    assert answer.headers["retry-after"]


def test_answers_are_compressed_where_that_is_accepted(server: Server) -> None:
    plain = request(server, "/metrics")
    packed = request(server, "/metrics", Accept_Encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert b"stepstream_readings_total" in gzip.decompress(packed.body)
    assert len(packed.body) < len(plain.body) / 3


def test_only_origins_that_are_set_may_call_from_their_pages(server: Server) -> None:
    allowed = request(server, "/v1/devices", Origin="https://ops.example.org")
    other = request(server, "/v1/devices", Origin="https://elsewhere.example.org")
    assert allowed.headers["access-control-allow-origin"] == "https://ops.example.org"
    assert "access-control-allow-origin" not in other.headers


def test_a_token_guards_the_api_and_the_page_and_nothing_else(consumer: Consumer) -> None:
    with serve(settings(token=TOKEN), consumer) as server:
        guarded = [
            "/v1/devices", "/v1/devices/a", "/v1/activity/a", "/performance", *DATA_OF_PAGE
        ]  # fmt: skip
        for path in guarded:
            answer = request(server, path)
            assert answer.status == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert request(server, path, Authorization=f"Bearer {TOKEN}x").status == 401
        assert request(server, "/v1/detect", b"{}").status == 401
        assert request(server, "/v1/devices", Host="a/performance/static/?").status == 401
        assert request(server, "/v1/devices", Authorization=f"Bearer {TOKEN}").status == 200
        for path in ("/livez", "/metrics", "/openapi.json"):
            answer = request(server, path)
            assert answer.status == 200, path
            assert TOKEN.encode() not in answer.body


def test_a_browser_logs_in_once_and_may_only_read(consumer: Consumer) -> None:
    with serve(settings(token=TOKEN), consumer) as server:
        assert b"asks for its token" in request(server, "/performance").body
        assert request(server, "/performance/login", b"token=wrong").status == 401
        assert request(server, "/performance/login", b"token=" + b"x" * 5_000).status == 413
        answer = request(server, "/performance/login", f"token={TOKEN}".encode())
        assert (answer.status, answer.headers["location"]) == (303, "/performance")
        cookie = answer.headers["set-cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        cookie = cookie.partition(";")[0]
        assert request(server, "/performance", Cookie=cookie).status == 200
        assert request(server, "/v1/devices", Cookie=cookie).status == 200
        assert request(server, "/v1/detect", b"{}", Cookie=cookie).status == 401


def test_the_document_names_every_route_and_no_other(server: Server, consumer: Consumer) -> None:
    app = make_app(settings(), consumer)
    routes = {str(getattr(route, "path", "")).replace(":path", "") for route in app.routes}
    named = set(OPENAPI["paths"])
    # What only the page asks for may change with it.
    assert all(path.startswith("/performance/") for path in routes - named)
    assert named <= routes
    assert {"/", "/performance/login", "/performance/stream"} <= named
    assert request(server, "/openapi.json").json == OPENAPI
    for schema in OPENAPI["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_large_headers_are_refused(server: Server) -> None:
    assert request(server, "/livez", X_Filler="x" * (MAX_HEADER_BYTES // 2)).status == 200
    # In one piece: if the server closes before all is sent, the answer is lost with the connection.
    filler = b"x" * MAX_HEADER_BYTES
    with socket.create_connection(("127.0.0.1", server.port or 0), 5) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Filler: " + filler)
        assert connection.recv(100).startswith(b"HTTP/1.1 431")


def test_a_request_that_does_not_come_to_an_end_is_dropped(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_module, "REQUEST_TIMEOUT_S", 0.2)
    for begun in (b"", b"GET /livez HTTP/1.1\r\nHost:", b"POST /v1/detect HTTP/1.1\r\nHost: a\r\n"):
        with socket.create_connection(("127.0.0.1", server.port or 0), 5) as connection:
            connection.sendall(begun)
            assert connection.recv(100) == b""


def test_connections_beyond_the_limit_are_closed(consumer: Consumer) -> None:
    with serve(settings(max_connections=2), consumer) as server:
        address = ("127.0.0.1", server.port or 0)
        held = [socket.create_connection(address, 5) for _ in range(6)]
        try:

            def closed() -> int:
                count = 0
                for connection in held:
                    connection.settimeout(0.05)
                    try:
                        count += connection.recv(1) == b""
                    except TimeoutError:
                        continue
                    except ConnectionResetError:
                        count += 1
                return count

            assert wait_until("closed connections", closed, 5) == 4
        finally:
            for connection in held:
                connection.close()
        wait_until("an answer", lambda: request(server, "/livez").status == 200, 5)


def test_a_taken_port_is_an_error_if_it_was_asked_for(consumer: Consumer) -> None:
    taken = settings()
    with serve(taken, consumer), pytest.raises(SettingsError, match=r"http\.port"):
        serve(taken, consumer)


def test_a_taken_default_port_is_replaced_and_the_log_says_by_which(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = settings()
    with serve(taken, consumer) as first:
        monkeypatch.setattr(HttpSettings, "model_fields_set", set())
        with caplog.at_level(logging.INFO), serve(taken, consumer) as second:
            port = second.port
            assert port not in {None, first.port}
            assert request(second, "/livez").status == 200
    (record,) = [record for record in caplog.records if "is taken" in record.message]
    assert record.__dict__["address"] == f"http://127.0.0.1:{port}"


def test_a_sample_taken_just_when_a_stream_gives_up_waiting_is_sent(consumer: Consumer) -> None:
    sampler = Sampler(settings(), consumer, Timeline(str))
    page = Page(sampler, Watches(settings().topics, consumer))

    async def read() -> list[bytes]:
        # Each sample sets an event that the stream no longer waits for.
        response = await page.stream(Request({"type": "http", "query_string": b""}))
        stream = aiter(cast("StreamingResponse", response).body_iterator)
        given = [await anext(stream)]
        for _ in range(2):
            sampler.take()
            given.append(await asyncio.wait_for(anext(stream), 10))
        page.close()
        return [bytes(event).split(b"\n")[0] for event in given if not isinstance(event, str)]

    assert asyncio.run(read()) == [b"event: history", b"event: sample", b"event: sample"]


def test_wrong_tokens_on_the_form_are_throttled(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "WRONG_S", 1.0)
    right = f"token={TOKEN}".encode()
    with serve(settings(token=TOKEN), consumer) as server:
        for _ in range(access_module.MAX_WRONG):
            assert request(server, "/performance/login", b"token=wrong").status == 401
        answer = request(server, "/performance/login", right)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        allowed = request(server, "/v1/devices", Authorization=f"Bearer {TOKEN}")
        assert allowed.status == 200
        wait_until("a login", lambda: request(server, "/performance/login", right).status == 303, 5)


def test_a_host_that_is_set_may_be_asked_for_without_a_token(consumer: Consumer) -> None:
    with serve(settings(hosts="steps.example.org"), consumer) as server:
        for host, status in (
            ("steps.example.org", 200), ("Steps.Example.Org:80", 200), ("localhost", 200),
            ("other.example.org", 403), ("steps.example.org.evil.com", 403), ("", 403),
        ):  # fmt: skip
            assert request(server, "/v1/devices", Host=host).status == status, host
        forwarded = request(
            server, "/v1/devices", Host="steps.example.org", X_Forwarded_For="10.0.0.1"
        )
        assert forwarded.status == 200
    with serve(settings(hosts="*"), consumer) as server:
        assert request(server, "/v1/devices", Host="a.example").status == 200
    with serve(settings(token=TOKEN), consumer) as server:
        # Without the token, another name is of no use.
        allowed = request(server, "/v1/devices", Host="a.example", Authorization=f"Bearer {TOKEN}")
        assert allowed.status == 200


def test_without_a_token_other_machines_get_no_data(consumer: Consumer) -> None:
    app = make_app(settings(), consumer)

    async def ask(peer: str | None, path: str) -> int:
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [(b"host", b"localhost")], "root_path": "",
            "client": peer and (peer, 1), "server": ("127.0.0.1", 1), "scheme": "http",
        }  # fmt: skip
        statuses: list[int] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await app.asgi(scope, receive, send)
        return statuses[0]

    for peer, status in (
        ("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), (None, 200),
        ("10.0.0.7", 403), ("172.18.0.1", 403), ("fe80::1", 403),
    ):  # fmt: skip
        assert asyncio.run(ask(peer, "/performance")) == status, peer
        assert asyncio.run(ask(peer, "/livez")) in {200, 503}
        assert asyncio.run(ask(peer, "/metrics")) == 200


def test_who_holds_many_connections_loses_them_first(consumer: Consumer) -> None:
    made_with = settings(max_connections=4)
    with serve(made_with, consumer) as server, ExitStack() as stack:
        address = ("127.0.0.1", server.port or 0)
        few = stack.enter_context(
            socket.create_connection(address, 5, source_address=("127.0.0.2", 0))
        )
        many = [stack.enter_context(socket.create_connection(address, 5)) for _ in range(9)]
        assert wait_until("a probe", lambda: request(server, "/livez").status, 5)
        few.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
        assert few.recv(100).startswith(b"HTTP/1.1 200")
        many[0].settimeout(5)
        with suppress(ConnectionResetError):
            assert many[0].recv(1) == b""


def test_errors_of_the_server_are_logged_once_a_minute(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "_sparing", server_module._Sparing())
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "filters", [])
    app = make_app(settings(), consumer)

    async def fail(_request: Request) -> Any:
        raise RuntimeError("a bug")

    made_with = settings()
    app.asgi = make_asgi([Route("/bug", fail)], made_with.http, Access(made_with.http), Traffic())
    with Server(made_with.http, app) as server, caplog.at_level(logging.ERROR):
        for _ in range(5):
            answer = request(server, "/bug")
            assert (answer.status, answer.json["error"]) == (500, "internal-error")
            assert answer.headers["x-content-type-options"] == "nosniff"
    assert len([r for r in caplog.records if r.name == "uvicorn.error"]) == 1


@pytest.mark.parametrize(
    "token", ["ein-Schlüssel-der-lang-ist", "has a space in between", "x" * 15]
)
def test_a_token_that_no_client_can_send_is_refused_at_the_start(token: str) -> None:
    with pytest.raises(ValueError, match="the token"):
        HttpSettings(token=SecretStr(token))
