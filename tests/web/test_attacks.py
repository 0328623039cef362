"""What clients can do that mean no good, or are just slow; the server is another process."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import ExitStack
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kafka.builders import wait_until
from tests.web.served import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = {"content-type": "application/json"}
ATTACKERS = 98
LONG_BATCH = {
    name: [0.1] * 10_000 for name in ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
}


@pytest.fixture(scope="module", params=[(), ("--workers",)], ids=["consumer", "parent"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(*request.param) as started:
        wait_until("an answer", lambda: ask(started, "/readyz")[0] == 200, 30)
        yield started


def ask(
    server: Served,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    method: str = "",
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    finally:
        connection.close()


def connect(server: Served, stack: ExitStack, sent: bytes = b"") -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 15))
    if sent:
        connection.sendall(sent)
    return connection


def probe_s(server: Served) -> float:
    """How long a probe takes."""
    began_s = time.monotonic()
    assert ask(server, "/livez")[0] == 200
    return time.monotonic() - began_s


def metric(server: Served, name: str, **labels: str) -> float:
    """The sum of a metric's values, of all workers and the parent."""
    _, _, page = ask(server, "/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def refusals(server: Served, reason: str) -> float:
    return metric(server, "stepstream_http_refusals_total", reason=reason)


def test_idle_connections_do_not_keep_probes_out(server: Served) -> None:
    with ExitStack() as stack:
        for _ in range(120):
            connect(server, stack)
        assert max(probe_s(server) for _ in range(5)) < 1
    assert refusals(server, "connections") >= 20
    assert metric(server, 'stepstream_http_refusals_total{reason="connections"') >= 0


def test_connections_that_pipeline_metrics_do_not_delay_probes(server: Served) -> None:
    stop = Event()
    pipelined = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30

    def flood(connection: socket.socket) -> None:
        # Bounded: the test ends it after two seconds.
        connection.setblocking(False)
        end_s = time.monotonic() + 10
        while not stop.wait(0.02) and time.monotonic() < end_s:
            for action in (lambda: connection.send(pipelined), lambda: connection.recv(1 << 20)):
                try:
                    action()
                except BlockingIOError:
                    continue
                except OSError:
                    return

    with ExitStack() as stack:
        threads = [Thread(target=flood, args=(connect(server, stack),)) for _ in range(ATTACKERS)]
        for thread in threads:
            thread.start()
        try:
            slowest_s = max(probe_s(server) for _ in range(15))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert slowest_s < 1, f"{slowest_s:.3f} s"


def test_a_long_signal_in_few_bytes_is_refused(server: Served) -> None:
    batches = []
    for number in range(30):
        first_s = 1_700_000_000 + number * 10_000 * 0.24
        batches.append(
            {"timestamp": [round(first_s + n * 0.24, 2) for n in range(10_000)], **LONG_BATCH}
        )
    body = json.dumps(batches, separators=(",", ":")).encode()[: 4 << 20]
    few = json.dumps(batches[:10], separators=(",", ":")).encode()
    began_s = time.monotonic()
    assert ask(server, "/v1/detect", few, JSON)[0] == 413
    assert ask(server, "/v1/detect", body, JSON)[0] in {413, 422}
    assert time.monotonic() - began_s < 10
    assert ask(server, "/v1/detect", b"{}", JSON)[0] == 422


def test_work_ends_when_nobody_waits_for_it(server: Served) -> None:
    batch = {"timestamp": [1.7e9 + n * 0.24 for n in range(10_000)], **LONG_BATCH}
    body = json.dumps(batch).encode()
    head = (
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            connection.sendall(head + body)
    wait_until("the end", lambda: metric(server, "stepstream_detect_requests") == 0, 5)
    # The threads that compute are free again, not only the requests gone.
    began_s = time.monotonic()
    assert ask(server, "/v1/detect", b"{}", JSON)[0] == 422
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' + b"[" * 100_000,
        b'[{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}]",
        b'{"device_id":"\xff"}',
        b'[{"device_id":"\xff"}]',
        b'[{"device_id":"\xed\xa0\x80"}]',
        b'{"device_id":"\\ud800"}',
        b"\xff\xfe",
    ],
)
def test_bodies_that_are_no_json_are_refused(server: Served, body: bytes) -> None:
    status, headers, content = ask(server, "/v1/detect", body, JSON)
    assert status == 422
    assert json.loads(content)["error"] in {"invalid-json", "missing-field"}
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "text/plain;version=x;escaping=zz",
        "application/openmetrics-text; version=9e9.1",
        "\xff",
        ";;;=",
    ],
)
def test_whatever_is_accepted_gets_metrics(server: Served, accept: str) -> None:
    status, _, page = ask(server, "/metrics", headers={"accept": accept})
    assert status == 200
    assert b"stepstream_ready" in page


def test_the_servers_own_answers_have_the_security_headers(server: Served) -> None:
    for sent in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1 << 20)):
        with ExitStack() as stack:
            received = connect(server, stack, sent).recv(4_000)
            assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
            assert b"x-content-type-options: nosniff" in received.lower()


def test_headers_beyond_the_bound_are_refused_also_if_they_come_at_once(server: Served) -> None:
    assert ask(server, "/livez", headers={"x": "y" * 10_000})[0] == 200
    assert ask(server, "/livez", headers={"x": "y" * 17_000})[0] == 431
    many = {f"x-{n}": "y" * 1_000 for n in range(20)}
    assert ask(server, "/livez", headers=many)[0] == 431


def test_trickling_bodies_do_not_block_detection(server: Served) -> None:
    head = (
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n{"
    )
    with ExitStack() as stack:
        for _ in range(12):
            connect(server, stack, head)
        assert ask(server, "/v1/detect", b"{}", JSON)[0] == 422


def test_redirections_do_not_repeat_the_host(server: Served) -> None:
    for path in ("/performance/", "/metrics/", "/v1/devices/", "/performance/static", "//a/"):
        _, headers, _ = ask(server, path, headers={"host": "evil.example"})
        assert "evil" not in headers.get("location", ""), path


def test_another_name_that_leads_here_gets_no_data(server: Served) -> None:
    for path in ("/v1/devices", "/performance", "/performance/stream", "/v1/devices/a"):
        status, _, content = ask(server, path, headers={"host": f"evil.example:{server.port}"})
        assert (status, json.loads(content)["error"]) == (403, "forbidden")
    for host in ("localhost", "127.0.0.1:8080", "[::1]:80", "a.localhost", "0.0.0.0:1"):
        assert ask(server, "/v1/devices", headers={"host": host})[0] == 200
    status, _, _ = ask(server, "/v1/devices", headers={"x-forwarded-for": "10.0.0.1"})
    assert status == 403
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        assert ask(server, path, headers={"host": "evil.example"})[0] == 200


def test_what_everybody_may_ask_shows_no_devices(server: Served) -> None:
    assert b"walker-1" in ask(server, "/v1/devices")[2]
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        status, _, content = ask(server, path, headers={"host": "evil.example"})
        assert status == 200
        assert b"walker" not in content, path


def test_pages_of_other_origins_can_not_post(server: Served) -> None:
    for given in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; b=1",
        "",
    ):
        status, _, content = ask(server, "/v1/detect", b"{}", {"content-type": given})
        assert (status, json.loads(content)["error"]) == (415, "media-type"), given
    packed = {**JSON, "content-encoding": "gzip"}
    status, headers, content = ask(server, "/v1/detect", b"\x1f\x8b", packed)
    assert status == 415
    assert headers["accept-encoding"] == "identity"
    assert "without compression" in json.loads(content)["detail"]


def test_a_stream_that_nobody_reads_is_not_begun(server: Served) -> None:
    for path in ("/performance/stream", "/performance/stream?device=walker-1"):
        assert ask(server, path, method="HEAD")[0] == 405
    assert metric(server, "stepstream_http_streams") == 0


def test_requests_and_refusals_are_counted(server: Served) -> None:
    route = "stepstream_http_requests_total"
    before = metric(server, route, route="/livez", status="200")
    unknown = metric(server, route, route="other", status="404")
    probe_s(server)
    ask(server, "/else")
    assert metric(server, route, route="/livez", status="200") == before + 1
    assert metric(server, route, route="other", status="404") == unknown + 1
    assert metric(server, "stepstream_http_request_seconds_count", route="/livez") > before
    for reason, path, headers in (
        ("host", "/v1/devices", {"host": "evil.example"}),
        ("headers", "/livez", {"x": "y" * 17_000}),
    ):
        before = refusals(server, reason)
        ask(server, path, headers=headers)
        assert refusals(server, reason) == before + 1


def test_answers_that_are_not_read_hold_nothing_for_long(server: Served) -> None:
    sent = b"GET /performance/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    pages = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
    with ExitStack() as stack:
        for number in range(20):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(pages if number else sent)
        assert metric(server, "stepstream_http_connections") > 15
        # A stream is so small that it may take minutes to fill the buffers.
        wait_until("slow readers", lambda: refusals(server, "slow-reader") >= 19, 30)
        wait_until("ends", lambda: metric(server, "stepstream_http_connections") < 5, 5)
        # The kernel doesn't keep what wasn't read.
        with pytest.raises(ConnectionResetError):
            drain(connection)


def drain(connection: socket.socket) -> None:
    """Read until the connection ends."""
    while connection.recv(1 << 16):
        pass
