"""``stepstream serve``, as processes of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as examples
from schemathesis.specs.openapi.checks import positive_data_acceptance

from stepstream.metrics import OF_SERVER, PROCESS_METRICS
from stepstream.otlp.failures import PushFailures
from stepstream.settings import HttpSettings, ServeSettings
from stepstream.web.batches import ALONE
from stepstream.web.detection import MAX_BODY_BYTES
from stepstream.web.server import Server
from stepstream.web.serving import ServeApp
from stepstream.web.traffic import HTTP_METRICS
from tests.builders import FIELDS, encode, reading
from tests.kafka.broker import free_port
from tests.kafka.builders import wait_until
from tests.web.builders import Answer, request
from tests.web.serving import Serving, ask_again, metrics, serving
from tests.web.test_openapi import DOCUMENT
from tests.web.test_server import TOKEN, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

SINGLES, BATCH, _ = walk(60)
PATHS = {"/livez", "/readyz", "/metrics", "/openapi.json", "/v1/detect"}


@cache
def body(begin: int, count: int) -> bytes:
    return encode({name: values[begin : begin + count] for name, values in BATCH.items()})


def slow(readings: int) -> bytes:
    """A signal of four minutes for each 1,000 readings."""
    times = [1_700_000_000 + n * 0.24 for n in range(readings)]
    return encode({"timestamp": times, **{name: [0] * readings for name in FIELDS[:3]}})


LONG = slow(5_000)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as started:
        yield started


def test_many_at_once_get_what_each_gets_alone(server: Serving) -> None:
    bodies = [body(40 * n, 400 + n) for n in range(40)]
    bodies[::7] = [encode(reading(accel_x=None)), b"[", LONG, b"[]", body(0, 4_000), b"{}"]
    alone = [server.ask("/v1/detect", one) for one in bodies]
    assert {one.status for one in alone} == {200, 422}
    assert sum(len(one.json.get("steps", ())) for one in alone) > 100
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(lambda one: server.ask("/v1/detect", one), bodies))
    assert [(a.status, a.body) for a in together] == [(a.status, a.body) for a in alone]


def test_a_short_request_is_answered_while_a_long_one_is_computed(server: Serving) -> None:
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(server.ask, "/v1/detect", LONG)
        wait_until(
            "the long one",
            lambda: metrics(server.ask("/metrics").body, "stepstream_detect_requests") == {"": 1},
        )
        short = server.ask("/v1/detect", body(0, 128))
        assert not long.done()
        assert short.status == 200
        assert long.result().status == 200


def test_beyond_the_bound_requests_are_refused_and_probes_are_answered(server: Serving) -> None:
    count = 24
    large = (b"[" + slow(1_000) + b"]").ljust(ALONE.size // (count // 2))
    assert len(large) < MAX_BODY_BYTES
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(server.ask, "/v1/detect", large) for _ in range(count)]
        slowest_s = 0.0
        while not all(one.done() for one in asked):
            began_s = time.monotonic()
            assert server.ask("/livez").status == 200
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        answers = [one.result() for one in asked]
    refused = [one for one in answers if one.status != 200]
    assert len(refused) < count
    for one in refused:
        assert (one.status, one.json["error"], one.headers["retry-after"]) == (503, "busy", "1")
    assert refused
    assert slowest_s < 2
    assert server.ask("/v1/detect", body(0, 128)).status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_that_came_is_answered_when_it_stops(number: int) -> None:
    """Clients that keep their connections see no error, only their end."""
    stopping = Event()
    with serving() as server:
        expected = server.ask("/v1/detect", body(0, 400)).body

        def ask_until_closed(_: int) -> tuple[int, bool]:
            connection, answered = server.connect(), 0
            while True:
                answer = ask_again(connection, "/v1/detect", body(0, 400))
                assert (answer.status, answer.body) == (200, expected)
                answered += 1
                if answer.headers.get("connection") == "close":
                    return answered, stopping.is_set()

        with ThreadPoolExecutor(9) as pool:
            asked = [pool.submit(ask_until_closed, n) for n in range(8)]
            wait_until(
                "requests",
                lambda: (
                    sum(
                        metrics(
                            server.ask("/metrics").body, "stepstream_http_requests_total"
                        ).values()
                    )
                    > 40
                ),
            )
            stopping.set()
            long = pool.submit(server.ask, "/v1/detect", LONG)
            wait_until(
                "the long one",
                lambda: metrics(server.ask("/metrics").body, "stepstream_detect_requests")[""] > 0,
            )
            assert server.stop(number) == 0
            assert long.result().status == 200
            assert all(was_stopping for _, was_stopping in (one.result() for one in asked))
        assert server.process.stderr is not None
        lines = server.process.stderr.read().splitlines()
    assert lines[0].endswith("stepstream.commands.serve: started " + lines[0].split("started ")[1])
    assert lines[-1].endswith("stepstream.commands.serve: stopped")


def keeping(server: Server) -> list[Answer]:
    """An answer over a connection that the client wants to keep."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port or 0, timeout=20)) as kept:
        return [ask_again(kept, "/v1/detect", body(0, 400))]


def test_it_is_not_ready_while_it_stops_and_closes_connections() -> None:
    app = ServeApp(ServeSettings())
    with Server(HttpSettings(address="127.0.0.1", port=free_port()), app) as server:
        before = request(server, "/readyz"), request(server, "/v1/detect", body(0, 400))
        assert [answer.status for answer in before] == [200, 200]
        assert all(answer.headers.get("connection") != "close" for answer in keeping(server))
        app.health.leave()
        unready = request(server, "/readyz")
        assert (unready.status, unready.body) == (503, b"not ready: it is stopping\n")
        answers = keeping(server)
        assert [answer.headers["connection"] for answer in answers] == ["close"]
        assert answers[0].body == before[1].body


def test_the_metrics_are_those_of_a_server(server: Serving) -> None:
    server.ask("/v1/detect", body(0, 128))
    page = server.ask("/metrics").body
    for name in (*(metric.name for metric in (*OF_SERVER, *HTTP_METRICS)), PushFailures.name):
        assert f"# TYPE {name}".encode() in page, name
    for name in PROCESS_METRICS:
        assert name.encode() in page
    assert metrics(page, "stepstream_ready") == {"": 1}
    answered = metrics(page, "stepstream_http_requests_total")
    assert answered['{route="/v1/detect",status="200"}'] > 0


def test_a_token_is_asked_for() -> None:
    with serving(STEPSTREAM_HTTP__TOKEN=TOKEN) as server:
        assert server.ask("/v1/detect", b"{}").status == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert server.ask("/v1/detect", body(0, 128), **bearer).status == 200
        assert server.ask("/metrics").status == 200


def test_workers_share_the_port_and_their_metrics_are_one_page() -> None:
    with serving("--workers", "2") as server:

        def answered() -> dict[str, float]:
            page = server.ask("/metrics").body
            counts = metrics(page, "stepstream_http_requests_total")
            return {
                worker: counts.get(f'{{route="/v1/detect",status="200",worker="{worker}"}}', 0)
                for worker in "01"
            }

        def ask(_: int) -> int:
            return server.ask("/v1/detect", body(0, 128)).status

        wait_until(
            "both workers",
            lambda: (
                metrics(server.ask("/metrics").body, "stepstream_ready")
                == {'{worker="0"}': 1, '{worker="1"}': 1}
            ),
            30,
        )
        with ThreadPoolExecutor(8) as pool:

            def both_answer() -> bool:
                assert set(pool.map(ask, range(64))) == {200}
                return min(answered().values()) > 0

            wait_until("answers of both", both_answer, 30)
        page = server.ask("/metrics").body
        assert metrics(page, "stepstream_workers")['{state="running"}'] == 2
        with ThreadPoolExecutor(2) as pool:
            killed = children(server.process.pid)[0]
            os.kill(killed, signal.SIGKILL)
            wait_until(
                "its successor",
                lambda: (
                    sum(
                        metrics(
                            server.ask("/metrics").body, "stepstream_worker_restarts_total"
                        ).values()
                    )
                    == 1
                ),
                30,
            )
            assert set(pool.map(ask, range(8))) == {200}
        wait_until("a ready server", server.is_ready)
        assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 1)


def children(pid: int) -> list[int]:
    from pathlib import Path  # noqa: PLC0415

    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())]


def test_without_a_port_or_a_schema_it_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    from stepstream.cli import main  # noqa: PLC0415

    assert main(["serve", "--http.port", "0"]) == 2
    assert "http.port is 0" in capsys.readouterr().err
    assert main(["serve", "--input.format", "avro"]) == 2
    assert "input: avro needs registry.url" in capsys.readouterr().err


def test_the_document_names_what_is_served_and_nothing_else(server: Serving) -> None:
    document = server.ask("/openapi.json").json
    assert set(document["paths"]) == PATHS
    for path in PATHS:
        assert document["paths"][path] == DOCUMENT["paths"][path]
    for path in DOCUMENT["paths"].keys() - PATHS:
        assert server.ask(path).status == 404


SCHEMA = schemathesis.openapi.from_dict(
    {**DOCUMENT, "paths": {path: DOCUMENT["paths"][path] for path in sorted(PATHS)}}
)


@SCHEMA.parametrize()
@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_what_the_document_says(case: schemathesis.Case[Any], server: Serving) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{server.port}",
        timeout=15,
        allow_redirects=False,
        # A schema can't say that the columns of a batch have the same length.
        excluded_checks=[positive_data_acceptance] if case.path == "/v1/detect" else [],
    )


def test_a_lone_request_is_answered_at_once(server: Serving) -> None:
    """No time passes in which it waits for others."""
    connection, took_s = server.connect(), []
    for _ in range(50):
        began_s = time.perf_counter()
        assert ask_again(connection, "/v1/detect", body(0, 128)).status == 200
        took_s.append(time.perf_counter() - began_s)
    connection.close()
    # 2 ms on an idle machine.
    assert sorted(took_s)[25] < 0.02


def test_json_of_the_answer_is_that_of_events(server: Serving) -> None:
    found = json.loads(server.ask("/v1/detect", body(0, 800)).body)
    assert list(found) == ["device_id", "model", "readings", "steps"]
    assert found["steps"]
    assert all(step["device_id"] == "device" for step in found["steps"])
